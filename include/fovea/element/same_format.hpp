// fovea/element/same_format.hpp - types of different names for the same numbers.
#pragma once

#include <fovea/element/bf16.hpp>
#include <fovea/element/fp16.hpp>

FOVEA_NAMESPACE_BEGIN

/// Two types that store the same numbers in the same bits, as fp16 and Eigen::half.
template <class A, class B>
concept same_format =
    std::is_same_v<A, B> || (bfloat16_bits<A> && bfloat16_bits<B>) || (binary16_bits<A> && binary16_bits<B>);

FOVEA_NAMESPACE_END
