// fovea/kernels.hpp - the kernels of a program, compiled once in place of once a file.
//
// Walks and products, which take most of the time that a call takes to compile, depend on an element and an
// instruction set, and not on masks, scores, layouts or numbers of heads. With FOVEA_EXTERN_KERNELS defined,
// files refer to those of this list (multi_head/products.hpp has the layers') in place of compiling them. One
// file of the program compiles them:
//
//   #define FOVEA_DEFINE_KERNELS
//   #include <fovea/multi_head.hpp>        // or attention.hpp, where no layer is used
//
// CMake's fovea_kernels(<target>) is a library of that file, which defines FOVEA_EXTERN_KERNELS for whoever
// links it. All files are compiled for the same instruction set, with the same parts of -ffast-math: else the
// program does not link, and the inline namespace, part of what is said to be missing, names them
// (config.hpp); and with the same settings of Eigen. Results are the same, and so is the time of a call.
// Kernels that are not in the list (other elements of queries, a user's scorer, sweeps, caches of 4 bits) are
// compiled where they are used, as all are without it.
#pragma once

#include <fovea/element.hpp>
#include <fovea/kernel/backward/differentiate_keys.hpp>
#include <fovea/kernel/forward/one_row.hpp>
#include <fovea/plan/make_plan.hpp>

#include <cstdint>

#ifdef FOVEA_EXTERN_KERNELS

FOVEA_NAMESPACE_BEGIN
namespace kernel {

using xsimd::default_arch;

// Sums in float: the walks.
FOVEA_KERNEL void walk_lanes(const lane_job<default_arch, float>&, const lane_softmax<default_arch, float>&,
                             const lane_values<default_arch, float>&) noexcept;
FOVEA_KERNEL void walk_rows(const row_job<default_arch, float>&, const row_panels<default_arch, float>&,
                            const row_softmax<default_arch, float>&,
                            const row_values<default_arch, float>&) noexcept;
FOVEA_KERNEL void attend_block(one_row<default_arch, float>, const matrix_view<const float>&,
                               const matrix_view<const float>&, float*, float*) noexcept;
FOVEA_KERNEL void attend_blocks(one_row<default_arch, float>, const matrix_view<const float>&,
                                const matrix_view<const float>&, float*) noexcept;
FOVEA_KERNEL void write_values(const row_panel<default_arch, float>&, const row_softmax<default_arch, float>&,
                               const row_results_ref<default_arch, float>&, const sequences<float>&,
                               index_type, index_type) noexcept;
FOVEA_KERNEL void score_block(const dot_product&, const place&,
                              const operand<default_arch, float, matrix_view<const float>>&,
                              const row_panels<default_arch, float>&, range, float, piece_places&) noexcept;
FOVEA_KERNEL void add_block(const operand<default_arch, float, matrix_view<const float>>&,
                            const row_panels<default_arch, float>&, range, bool, piece_places&) noexcept;
FOVEA_KERNEL index_type copy_value<default_arch>(const row_block&, index_type, const sequences<const float>&,
                                                 const matrix_view<const float>&,
                                                 const matrix_view<const float>&, float,
                                                 const sequences<float>&, const sequences<float>&) noexcept;
FOVEA_KERNEL struct operand<default_arch, float, matrix_view<const float>>;
FOVEA_KERNEL struct row_softmax<default_arch, float>;
FOVEA_KERNEL class lane_values<default_arch, float>;
FOVEA_KERNEL void row_queries_ref<default_arch, float>::copy_rows<float>(
    const void*, index_type, index_type, const row_panel<default_arch, float>&, float) noexcept;
FOVEA_KERNEL void row_results_ref<default_arch, float>::write_rows<sequences<float>>(
    const void*, index_type, index_type, const row_panel<default_arch, float>&) noexcept;
FOVEA_KERNEL class key_group<default_arch, float>;
FOVEA_KERNEL void differentiate_head(const gradient_head<default_arch, float>&,
                                     key_superblock<default_arch, float>&) noexcept;
// Products.
FOVEA_KERNEL void dot_seen_keys<default_arch, 1>(const float*, index_type, const rows_of<float>&, float,
                                                 logit_block<default_arch, float>&, bool, prefetch&) noexcept;
FOVEA_KERNEL void dot_seen_keys<default_arch, 2>(const float*, index_type, const rows_of<float>&, float,
                                                 logit_block<default_arch, float>&, bool, prefetch&) noexcept;
FOVEA_KERNEL void dot_seen_keys<default_arch, 3>(const float*, index_type, const rows_of<float>&, float,
                                                 logit_block<default_arch, float>&, bool, prefetch&) noexcept;
FOVEA_KERNEL void dot_pieces(const row_panel<default_arch, float>&, const block_pieces<float>&) noexcept;
FOVEA_KERNEL void add_pieces(const row_panel<default_arch, float>&, const block_pieces<float>&,
                             index_type) noexcept;
FOVEA_KERNEL void add_seen_pieces(const row_panel<default_arch, float>&, const block_pieces<float>&,
                                  index_type) noexcept;
FOVEA_KERNEL void dot_pieces(const row_panel<default_arch, float>&, const block_pieces<bf16>&) noexcept;
FOVEA_KERNEL void add_pieces(const row_panel<default_arch, float>&, const block_pieces<bf16>&,
                             index_type) noexcept;
FOVEA_KERNEL void add_seen_pieces(const row_panel<default_arch, float>&, const block_pieces<bf16>&,
                                  index_type) noexcept;
FOVEA_KERNEL void dot_pieces(const row_panel<default_arch, float>&, const block_pieces<fp16>&) noexcept;
FOVEA_KERNEL void add_pieces(const row_panel<default_arch, float>&, const block_pieces<fp16>&,
                             index_type) noexcept;
FOVEA_KERNEL void add_seen_pieces(const row_panel<default_arch, float>&, const block_pieces<fp16>&,
                                  index_type) noexcept;
FOVEA_KERNEL void dot_pieces(const row_panel<default_arch, float>&,
                             const block_pieces<std::int8_t>&) noexcept;
FOVEA_KERNEL void add_pieces(const row_panel<default_arch, float>&, const block_pieces<std::int8_t>&,
                             index_type) noexcept;
FOVEA_KERNEL void add_seen_pieces(const row_panel<default_arch, float>&, const block_pieces<std::int8_t>&,
                                  index_type) noexcept;
FOVEA_KERNEL void pack<default_arch>(const matrix_view<const float>&, range, float, float*,
                                     index_type) noexcept;
FOVEA_KERNEL void unpack<default_arch>(const float*, index_type, const vec<default_arch, float>&,
                                       const matrix_view<float>&, range) noexcept;
FOVEA_KERNEL bool all_finite<default_arch, float>(rows_of<float>, index_type) noexcept;
FOVEA_KERNEL void pack<default_arch>(const matrix_view<const bf16>&, range, float, float*,
                                     index_type) noexcept;
FOVEA_KERNEL void unpack<default_arch>(const float*, index_type, const vec<default_arch, float>&,
                                       const matrix_view<bf16>&, range) noexcept;
FOVEA_KERNEL bool all_finite<default_arch, float>(rows_of<bf16>, index_type) noexcept;
FOVEA_KERNEL void pack<default_arch>(const matrix_view<const fp16>&, range, float, float*,
                                     index_type) noexcept;
FOVEA_KERNEL void unpack<default_arch>(const float*, index_type, const vec<default_arch, float>&,
                                       const matrix_view<fp16>&, range) noexcept;
FOVEA_KERNEL bool all_finite<default_arch, float>(rows_of<fp16>, index_type) noexcept;

// Sums in double: the walks.
FOVEA_KERNEL void walk_lanes(const lane_job<default_arch, double>&, const lane_softmax<default_arch, double>&,
                             const lane_values<default_arch, double>&) noexcept;
FOVEA_KERNEL void walk_rows(const row_job<default_arch, double>&, const row_panels<default_arch, double>&,
                            const row_softmax<default_arch, double>&,
                            const row_values<default_arch, double>&) noexcept;
FOVEA_KERNEL void attend_block(one_row<default_arch, double>, const matrix_view<const double>&,
                               const matrix_view<const double>&, double*, double*) noexcept;
FOVEA_KERNEL void attend_blocks(one_row<default_arch, double>, const matrix_view<const double>&,
                                const matrix_view<const double>&, double*) noexcept;
FOVEA_KERNEL void write_values(const row_panel<default_arch, double>&,
                               const row_softmax<default_arch, double>&,
                               const row_results_ref<default_arch, double>&, const sequences<double>&,
                               index_type, index_type) noexcept;
FOVEA_KERNEL void score_block(const dot_product&, const place&,
                              const operand<default_arch, double, matrix_view<const double>>&,
                              const row_panels<default_arch, double>&, range, double, piece_places&) noexcept;
FOVEA_KERNEL void add_block(const operand<default_arch, double, matrix_view<const double>>&,
                            const row_panels<default_arch, double>&, range, bool, piece_places&) noexcept;
FOVEA_KERNEL index_type copy_value<default_arch>(const row_block&, index_type, const sequences<const double>&,
                                                 const matrix_view<const double>&,
                                                 const matrix_view<const double>&, double,
                                                 const sequences<double>&, const sequences<double>&) noexcept;
FOVEA_KERNEL struct operand<default_arch, double, matrix_view<const double>>;
FOVEA_KERNEL struct row_softmax<default_arch, double>;
FOVEA_KERNEL class lane_values<default_arch, double>;
FOVEA_KERNEL void row_queries_ref<default_arch, double>::copy_rows<double>(
    const void*, index_type, index_type, const row_panel<default_arch, double>&, double) noexcept;
FOVEA_KERNEL void row_results_ref<default_arch, double>::write_rows<sequences<double>>(
    const void*, index_type, index_type, const row_panel<default_arch, double>&) noexcept;
FOVEA_KERNEL class key_group<default_arch, double>;
FOVEA_KERNEL void differentiate_head(const gradient_head<default_arch, double>&,
                                     key_superblock<default_arch, double>&) noexcept;
// Products.
FOVEA_KERNEL void dot_seen_keys<default_arch, 1>(const double*, index_type, const rows_of<double>&, double,
                                                 logit_block<default_arch, double>&, bool,
                                                 prefetch&) noexcept;
FOVEA_KERNEL void dot_seen_keys<default_arch, 2>(const double*, index_type, const rows_of<double>&, double,
                                                 logit_block<default_arch, double>&, bool,
                                                 prefetch&) noexcept;
FOVEA_KERNEL void dot_seen_keys<default_arch, 3>(const double*, index_type, const rows_of<double>&, double,
                                                 logit_block<default_arch, double>&, bool,
                                                 prefetch&) noexcept;
FOVEA_KERNEL void dot_pieces(const row_panel<default_arch, double>&, const block_pieces<double>&) noexcept;
FOVEA_KERNEL void add_pieces(const row_panel<default_arch, double>&, const block_pieces<double>&,
                             index_type) noexcept;
FOVEA_KERNEL void add_seen_pieces(const row_panel<default_arch, double>&, const block_pieces<double>&,
                                  index_type) noexcept;
FOVEA_KERNEL void pack<default_arch>(const matrix_view<const double>&, range, double, double*,
                                     index_type) noexcept;
FOVEA_KERNEL void unpack<default_arch>(const double*, index_type, const vec<default_arch, double>&,
                                       const matrix_view<double>&, range) noexcept;
FOVEA_KERNEL bool all_finite<default_arch, double>(rows_of<double>, index_type) noexcept;

}  // namespace kernel

FOVEA_KERNEL plan plan_to_attend<xsimd::default_arch>(
    const kernel::inputs<float, float, sequences<const float>, sequences<const float>>&, bool, bool) noexcept;
FOVEA_KERNEL plan plan_to_attend<xsimd::default_arch>(
    const kernel::inputs<double, double, sequences<const double>, sequences<const double>>&, bool,
    bool) noexcept;

FOVEA_NAMESPACE_END

#endif
