// fovea/position.hpp - WHERE tokens stand, told to the model. Rotary embedding (rotate, or fused into a
// cache's append), its table made from plain frequencies or those of a scaling, for one coordinate a token or
// several; and tables, sinusoidal or learned, that are added. (ALiBi is a score: score.hpp; alibi_slopes is
// beside it.)
#pragma once

#include <fovea/element.hpp>
#include <fovea/position/added.hpp>
#include <fovea/position/axes.hpp>
#include <fovea/position/linear_scaling.hpp>
#include <fovea/position/llama3_scaling.hpp>
#include <fovea/position/longrope_scaling.hpp>
#include <fovea/position/ntk_scaling.hpp>
#include <fovea/position/proportional.hpp>
#include <fovea/position/rotary.hpp>
#include <fovea/position/sinusoidal.hpp>
#include <fovea/position/yarn_scaling.hpp>
#include <fovea/view.hpp>
