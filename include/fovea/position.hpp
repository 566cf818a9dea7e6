// fovea/position.hpp - WHERE tokens stand, told to the model: rotary position embedding. (ALiBi is a score:
// score.hpp.)
#pragma once

#include <fovea/element.hpp>
#include <fovea/position/rotary.hpp>
#include <fovea/view.hpp>
