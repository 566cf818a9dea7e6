// fovea/plan/differentiate.hpp - the jobs of a backward call, run by an executor.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/backward/differentiate_gate.hpp>
#include <fovea/kernel/backward/differentiate_keys.hpp>
#include <fovea/kernel/backward/parameter_gradient.hpp>
#include <fovea/kernel/backward/row_terms.hpp>
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
  /// Where what a part of a group's heads adds to dK and dV is kept: rows of dK, then of dV.
  T* d_k(const gradient_job_list& jobs, index_type b, index_type kv_head, index_type part) const noexcept {
    const index_type a_key = round_up(g_.forward.dim(), n) + round_up(g_.forward.value_dim(), n);
    return kernel::after(d_kv_, starts_[b].d_kv) + (kv_head * jobs.parts() + part) * jobs.keys * a_key;
  }

 private:
  const Gradients& g_;
  const gradient_plan& plan_;
  const working_memory& memory_;
  T *terms_, *d_q_, *d_kv_;
  double *d_parameters_, *slots_, *of_sinks_;
  gradient_starts* starts_;
};

/// The gradient by the parameters of a scorer: in order, of sequences and key splits.
template <class Arch, class Gradients, class Memory>
void set_scorer_gradient(const Gradients& g, index_type batches, const Memory& memory) {
  const auto& p = g.forward;
  for (index_type h = 0; h < p.heads(); ++h)
    for (index_type c = 0; c < p.dim(); ++c) {
      double sum = 0;
      for (index_type b = 0; b < batches; ++b) {
        const auto jobs = gradient_job_list_of<Arch>(g, b);
        for (index_type split = 0; split < jobs.key_splits(); ++split)
          sum += memory.d_parameters(jobs, b, h, split)[c];
      }
      p.scorer.set_gradient(h, c, sum);
    }
}

/// A backward call of no sequence: sums over nothing.
template <class Problem>
void differentiate_nothing(const Problem& p) noexcept {
  if constexpr (learning_scorer<decltype(p.scorer)>)
    for (index_type h = 0; h < p.heads(); ++h)
      for (index_type c = 0; c < p.dim(); ++c) p.scorer.set_gradient(h, c, 0);
  if constexpr (requires { p.sink.set_gradient(index_type(0), 0.0); })
    for (index_type h = 0; h < p.heads(); ++h) p.sink.set_gradient(h, 0);
  p.rules.scores.each([](const auto& score) {
    if constexpr (learning_score<decltype(score)>)
      if (const auto to = score.gradient(); to.data != nullptr) {
        const auto all = view_of_gradient(to);
        for (index_type b = 0; b < to.batch; ++b)
          for (index_type h = 0; h < to.heads; ++h)
            for (index_type i = 0; i < to.queries; ++i)
              for (index_type j = 0; j < to.keys; ++j)
                all(b, h, i, j) = store_element<std::remove_pointer_t<decltype(to.data)>>(0.0f);
      }
    if constexpr (slot_learning_score<decltype(score)>)
      if (const auto to = score.slots(); to.data != nullptr)
        write_slots(to, [](index_type, index_type) { return 0.0; });
  });
}

/// The whole backward call.
template <class Arch, class Gradients>
void differentiate(const Gradients& g, const gradient_plan& plan, executor_ref executor,
                   std::span<std::byte> given) {
  using T = typename Gradients::compute;
  const auto& p = g.forward;
  if (plan.batches == 0) return differentiate_nothing(p);
  const working_memory room(plan, given);
  const gradient_memory<Arch, Gradients> memory(g, plan, room);
  if (plan.workers == 1) executor = executor_ref();
  const index_type width = round_up(p.dim(), kernel::lanes<Arch, T>);
  const index_type value_width = round_up(p.value_dim(), kernel::lanes<Arch, T>);

  executor.for_each(plan.batches * plan.heads, [&](index_type i, index_type worker) {
    const index_type b = i / plan.heads, h = i % plan.heads;
    const auto terms = memory.terms_of(b, h);
    const auto scratch = memory.scratch(i, worker);
    if constexpr (!Gradients::normalises) {
      std::fill_n(terms.lse, p.q.tokens(b), -p.bias());  // P = sigmoid(S + bias)   dS = P (1 - P) dO V^T
      std::fill_n(terms.delta, p.q.tokens(b), T(0));
      return;
    }
    const auto out = kernel::operand_of<Arch>(g.out.head(b, h), value_width, scratch.q_copy);
    const auto d_out = kernel::operand_of<Arch>(g.d_out.head(b, h), value_width, scratch.d_out_copy);
    double sink = 0;
    if constexpr (sink_like<decltype(p.sink)>) sink = static_cast<double>(p.sink.logit(h));
    const kernel::head_rows<T> rows{kernel::block_ref<T>(out), kernel::block_ref<T>(d_out),
                                    g.lse.head(b, h),          g.d_lse.head(b, h),
                                    Gradients::units,          has_sink(p.sink) ? &sink : nullptr};
    memory.of_sink(b, h) =
        kernel::row_terms<Arch>(rows, value_width, plan.rows_a_block, terms.lse, terms.delta);
    if constexpr (Gradients::gated)
      if (g.gates.gradient.all.data != nullptr)
        kernel::differentiate_gate<Arch, T>(g.out.head(b, h), g.d_out.head(b, h), g.lse.head(b, h),
                                            g.gates.values.head(b, h), g.gates.gradient.head(b, h));
  });

  const auto lines_of = [&](index_type i) {  // of job i
    const index_type b = i / plan.jobs_a_sequence, j = i % plan.jobs_a_sequence;
    if (i >= plan.jobs) return kernel::prefetch();
    const auto jobs = gradient_job_list_of<Arch>(g, b);
    return j < jobs.count() ? kernel::lines_of_job(g, jobs.at(b, j)) : kernel::prefetch();
  };
  executor.for_each(plan.jobs, [&](index_type i, index_type worker) {
    const index_type b = i / plan.jobs_a_sequence, j = i % plan.jobs_a_sequence;
    const auto jobs = gradient_job_list_of<Arch>(g, b);
    if (j >= jobs.count()) return;
    const auto job = jobs.at(b, j);
    kernel::differentiate_keys<Arch>(
        g, job, memory.scratch(i, worker), lines_of(i + plan.workers),
        [&](index_type h) { return memory.d_q(jobs, b, h, job.key_split); },
        [&](index_type h) { return memory.d_parameters(jobs, b, h, job.key_split); },
        [&](index_type h) { return memory.terms_of(b, h); },
        [&](range keys, const T* d_k, const T* d_v) {
          if (jobs.parts() == 1) {
            kernel::write_rows<Arch>(d_k, width, g.d_k.head(b, job.kv_head), keys);
            kernel::write_rows<Arch>(d_v, value_width, g.d_v.head(b, job.kv_head), keys);
          } else {
            T* const to = memory.d_k(jobs, b, job.kv_head, job.part);
            std::copy_n(d_k, keys.size() * width, to + keys.first * width);
            std::copy_n(d_v, keys.size() * value_width, to + jobs.keys * width + keys.first * value_width);
          }
        });
  });

  executor.for_each(plan.batches * plan.heads, [&](index_type i, index_type) {
    const index_type b = i / plan.heads, h = i % plan.heads;
    const auto jobs = gradient_job_list_of<Arch>(g, b);
    if (partial_d_q<Arch>(g, jobs) > 0) {
      const auto rules = p.rules.bind(p.at(b, h));
      kernel::write_sum<Arch>(memory.d_q(jobs, b, h, 0), memory.d_q(jobs, b, h, 1), jobs.key_splits(),
                              jobs.queries * width, g.d_q.head(b, h), [&](index_type split, range rows) {
                                return !seen_of(rules.mask, rows, jobs.key_split(split)).empty();
                              });
    }
    if (jobs.parts() == 1 || h >= jobs.kv_heads) return;
    T* const sums = memory.d_k(jobs, b, h, 0);
    const index_type distance = jobs.keys * (width + value_width);
    const auto write = [&](T* first, index_type stride, const auto& to) {
      kernel::write_sum<Arch, T>({first, stride}, {first + distance, stride}, jobs.parts(), distance, to,
                                 [](index_type, range) { return true; });
    };
    write(sums, width, g.d_k.head(b, h)), write(sums + jobs.keys * width, value_width, g.d_v.head(b, h));
  });

  if constexpr (requires { p.sink.set_gradient(index_type(0), 0.0); })
    for (index_type h = 0; h < plan.heads; ++h) {
      double sum = 0;
      for (index_type b = 0; b < plan.batches; ++b) sum += memory.of_sink(b, h);
      p.sink.set_gradient(h, sum);
    }

  if constexpr (learning_scorer<decltype(p.scorer)>) set_scorer_gradient<Arch>(g, plan.batches, memory);

  p.rules.scores.each_numbered([&](auto number, const auto& score) {
    if constexpr (learning_score<decltype(score)>) {
      const auto to = score.gradient();
      if (to.data == nullptr) return;
      const index_type step = to.queries == 1 ? std::max<index_type>(plan.queries, 1) : plan.rows_a_block;
      const index_type blocks = plan.row_blocks_of(to.queries);
      executor.for_each(to.batch * to.heads * blocks, [&](index_type i, index_type worker) {
        const index_type b = i / blocks / to.heads, h = i / blocks % to.heads, first = i % blocks * step;
        const kernel::parameter_job job{to.batch == 1 ? range{0, plan.batches} : range{b, b + 1},
                                        to.heads == 1 ? range{0, plan.heads} : range{h, h + 1},
                                        {first, std::min(first + step, plan.queries)}};
        T* sums = nullptr;
        const auto scratch = memory.scratch(i, worker, &sums);
        kernel::differentiate_parameters<Arch, number()>(
            g, score, to, job, [&](index_type of_b, index_type of_h) { return memory.terms_of(of_b, of_h); },
            sums, scratch);
      });
    }
    if constexpr (row_learning_score<decltype(score)>) {
      const auto to = score.row_sums();
      if (to.data == nullptr) return;
      const index_type step = plan.rows_a_block, blocks = ceil_div(plan.queries, step);
      const auto sum = [&](index_type b, index_type h, index_type block, const auto& scratch) {
        kernel::sum_rows<Arch, number()>(g, score, b, h, {block * step, (block + 1) * step}, to,
                                         memory.terms_of(b, h), scratch);
      };
      if constexpr (score_sums_heads<decltype(score)>)
        executor.for_each(plan.heads, [&](index_type h, index_type worker) {
          const auto scratch = memory.scratch(h, worker);
          for (index_type i = 0; i < plan.batches * blocks; ++i) sum(i / blocks, h, i % blocks, scratch);
        });
      else
        executor.for_each(plan.batches * plan.heads * blocks, [&](index_type i, index_type worker) {
          sum(i / blocks / plan.heads, i / blocks % plan.heads, i % blocks, memory.scratch(i, worker));
        });
    }
  });
  p.rules.scores.each_numbered([&](auto number, const auto& score) {
    if constexpr (slot_learning_score<decltype(score)>) {
      const auto to = score.slots();
      if (to.data == nullptr) return;
      const auto jobs = plan.slot_jobs();
      executor.for_each(jobs.count(), [&](index_type i, index_type worker) {
        const auto scratch = memory.scratch(i, worker);
        kernel::sum_slots<Arch, number()>(
            g, score, jobs.at(i), [&](index_type b, index_type h) { return memory.terms_of(b, h); },
            memory.slots(i, to.tokens), scratch);
      });
      write_slots(to, [&](index_type column, index_type slot) {
        const index_type first = column * jobs.parts(), count = to.dim == 1 ? jobs.count() : jobs.parts();
        double sum = 0;
        for (index_type i = first; i < first + count; ++i) sum += memory.slots(i, to.tokens).data[slot];
        return sum;
      });
    }
  });
}

FOVEA_NAMESPACE_END
