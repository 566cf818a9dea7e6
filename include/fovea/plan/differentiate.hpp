// fovea/plan/differentiate.hpp - the jobs of a backward call, run by an executor.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/backward/differentiate_gate.hpp>
#include <fovea/kernel/backward/differentiate_keys.hpp>
#include <fovea/kernel/backward/parameter_gradient.hpp>
#include <fovea/kernel/backward/row_terms.hpp>
#include <fovea/kernel/backward/slot_gradient.hpp>
#include <fovea/plan/gradient_memory.hpp>

FOVEA_NAMESPACE_BEGIN

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

  const auto make_terms = [&](index_type b, index_type h, const kernel::gradient_scratch<T>& scratch) {
    const auto terms = memory.terms_of(b, h);
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
  };
  // One job that has all keys of a head makes its rows' terms: the rows of dO are then near, as it needs them
  // again (8 x 12 x 128 x 64: 4 % of the call).
  const auto in_jobs = [&](index_type b) { return gradient_job_list_of<Arch>(g, b).key_splits() == 1; };
  bool all_in_jobs = true;
  for (index_type b = 0; b < plan.batches; ++b) all_in_jobs = all_in_jobs && in_jobs(b);
  if (!all_in_jobs)
    executor.for_each(plan.batches * plan.heads, [&](index_type i, index_type worker) {
      const index_type b = i / plan.heads;
      if (!in_jobs(b)) make_terms(b, i % plan.heads, memory.scratch(i, worker));
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
    const auto scratch = memory.scratch(i, worker);
    if (in_jobs(b))
      for (index_type h = job.heads.first; h < job.heads.last; ++h) make_terms(b, h, scratch);
    kernel::differentiate_keys<Arch>(
        g, job, scratch, lines_of(i + plan.workers),
        [&](index_type h) { return memory.d_q(jobs, b, h, job.key_split); },
        [&](index_type h) { return memory.d_parameters(jobs, b, h, job.key_split); },
        [&](index_type h) { return memory.terms_of(b, h); },
        [&](range keys) { return memory.d_kv(jobs, job, keys, scratch); },
        [&](range keys, const auto& d_k, const auto& d_v) {
          if (d_k.data == scratch.d_k)
            kernel::write_rows<Arch>(d_k.data, width, g.d_k.head(b, job.kv_head), keys);
          if (d_v.data == scratch.d_v)
            kernel::write_rows<Arch>(d_v.data, value_width, g.d_v.head(b, job.kv_head), keys);
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
