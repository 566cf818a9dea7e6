// fovea/element.hpp - WHAT elements are: float, double, bfloat16 and binary16. Sums are made in float or
// wider.
#pragma once

#include <fovea/element/bf16.hpp>
#include <fovea/element/f32.hpp>
#include <fovea/element/f64.hpp>
#include <fovea/element/fp16.hpp>
#include <fovea/element/fp8.hpp>
#include <fovea/element/int8.hpp>
#include <fovea/element/same_format.hpp>
