// fovea/plan/gradient_memory.hpp - where a backward call's sums, terms of rows and scratch lie.
#pragma once

#include <fovea/kernel/backward/slot_gradient.hpp>
#include <fovea/plan/gradient_plan.hpp>

FOVEA_NAMESPACE_BEGIN

/// Where the parts of a workspace lie.
template <class Arch, class Gradients>
class gradient_memory {
  using T = typename Gradients::compute;
  static constexpr index_type n = kernel::lanes<Arch, T>;

 public:
  struct row_terms {
    T *lse, *delta;
  };

  gradient_memory(const Gradients& g, const gradient_plan& plan, const working_memory& memory) noexcept
      : g_(g), plan_(plan), memory_(memory) {
    kernel::memory_parts parts(memory.shared());
    terms_ = parts.take<T>(plan.terms), d_q_ = parts.take<T>(plan.d_q), d_kv_ = parts.take<T>(plan.d_kv);
    d_parameters_ = parts.take<double>(plan.d_parameters), slots_ = parts.take<double>(plan.slots);
    of_sinks_ = parts.take<double>(plan.sink_bytes());
    starts_ = parts.take<gradient_starts>(kernel::bytes_of<gradient_starts>(plan.batches));
    index_type terms = 0, d_q = 0, d_kv = 0, d_parameters = 0;
    for (index_type b = 0; b < plan.batches; ++b) {
      starts_[b] = {terms, d_q, d_kv, d_parameters};
      const auto jobs = gradient_job_list_of<Arch>(g, b);
      terms += row_terms_bytes<T>(jobs);
      d_q += partial_d_q<Arch>(g, jobs), d_kv += partial_d_kv<Arch>(g, jobs);
      d_parameters += partial_d_parameters(g, jobs);
    }
  }

  kernel::gradient_scratch<T> scratch(index_type task, index_type worker, T** table = nullptr) const {
    const auto [scratch, table_sums] =
        plan_.scratch.at<T>(memory_.scratch(scratch_number(plan_, task, worker)));
    if (table) *table = table_sums;
    return scratch;
  }

  row_terms terms_of(index_type b, index_type h) const noexcept {
    const index_type queries = g_.forward.q.tokens(b);
    T* const first = kernel::after(terms_, starts_[b].terms) + 2 * h * queries;
    return {first, first + queries};
  }
  /// Where the gradient by a scorer's parameters is summed over a head and key split; null: it is not wanted.
  double* d_parameters(const gradient_job_list& jobs, index_type b, index_type h,
                       index_type key_split) const noexcept {
    if (plan_.d_parameters == 0) return nullptr;
    return kernel::after(d_parameters_, starts_[b].d_parameters) +
           (h * jobs.key_splits() + key_split) * g_.forward.dim();
  }
  /// Where a job sums what a table of so many slots learns.
  kernel::slot_sums slots(index_type job, index_type count) const noexcept {
    return {slots_ + job * count, count};
  }
  double& of_sink(index_type b, index_type h) const noexcept { return of_sinks_[b * plan_.heads + h]; }

  /// Where dQ of a head is summed over a key split: of the first one the result itself, where it can be.
  kernel::sums_of_rows<T> d_q(const gradient_job_list& jobs, index_type b, index_type h,
                              index_type key_split) const noexcept {
    const index_type in_place = sums_in_place<Arch, T>(g_.d_q);
    if constexpr (std::is_same_v<T, std::remove_cvref_t<decltype(*g_.d_q.all.data)>>)
      if (key_split < in_place) {
        const auto result = g_.d_q.head(b, h);
        return {result.data, result.row_stride};
      }
    const index_type width = round_up(g_.forward.dim(), n), splits = jobs.key_splits() - in_place;
    T* const first = kernel::after(d_q_, starts_[b].d_q);
    return {first + (h * splits + key_split - in_place) * jobs.queries * width, width};
  }
  /// Where dK and dV of a job's keys are summed: in the results themselves, where they are rows of registers
  /// of T not too far apart; in the part's own memory; in scratch.
  std::pair<kernel::sums_of_rows<T>, kernel::sums_of_rows<T>> d_kv(
      const gradient_job_list& jobs, const kernel::gradient_job& job, range keys,
      const kernel::gradient_scratch<T>& scratch) const noexcept {
    const index_type width = round_up(g_.forward.dim(), n), value_width = round_up(g_.forward.value_dim(), n);
    if (jobs.parts() > 1) {
      T* const first = d_k(jobs, job.batch, job.kv_head, job.part);
      return {{first + keys.first * width, width, true},
              {first + jobs.keys * width + keys.first * value_width, value_width, true}};
    }
    const auto sums = [&](const auto& to, T* own, index_type own_stride) -> kernel::sums_of_rows<T> {
      if constexpr (std::is_same_v<T, std::remove_cvref_t<decltype(*to.all.data)>>)
        if (const auto result = to.head(job.batch, job.kv_head);
            sums_in_place<Arch, T>(to) &&
            keys.size() * result.row_stride * index_type(sizeof(T)) <= most_span)
          return {result.at(keys.first), result.row_stride, true};
      return {own, own_stride, true};
    };
    return {sums(g_.d_k, scratch.d_k, width), sums(g_.d_v, scratch.d_v, value_width)};
  }
  /// Where what a part of a group's heads adds to dK and dV is kept: rows of dK, then of dV.
  T* d_k(const gradient_job_list& jobs, index_type b, index_type kv_head, index_type part) const noexcept {
    const index_type a_key = round_up(g_.forward.dim(), n) + round_up(g_.forward.value_dim(), n);
    return kernel::after(d_kv_, starts_[b].d_kv) + (kv_head * jobs.parts() + part) * jobs.keys * a_key;
  }

 private:
  /// Rows further apart share few sets of a cache.
  static constexpr index_type most_span = 512 * 1024;

  const Gradients& g_;
  const gradient_plan& plan_;
  const working_memory& memory_;
  T *terms_, *d_q_, *d_kv_;
  double *d_parameters_, *slots_, *of_sinks_;
  gradient_starts* starts_;
};

FOVEA_NAMESPACE_END
