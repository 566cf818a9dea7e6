// fovea/view.hpp - WHERE elements lie. Eigen matrices, maps and blocks; tensor_view with bhsd, bshd and
// packed_qkv for 4-D data; ragged for sequences of different length; decoded for keys and values in a store
// of one's own; std::mdspan and its kind, dlpack for tensors of other frameworks, and, in a header to include
// beside this one, view/eigen_tensor.hpp. All are views: nothing is copied, strides are free.
#pragma once

#include <fovea/view/broadcast.hpp>
#include <fovea/view/decoded.hpp>
#include <fovea/view/dlpack.hpp>
#include <fovea/view/eigen.hpp>
#include <fovea/view/mdspan.hpp>
#include <fovea/view/ragged.hpp>
#include <fovea/view/tensor.hpp>
