// fovea/distributed/ring_backward.hpp - gradients, as the keys of all ranks pass by with theirs.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/distributed/call_rules.hpp>
#include <fovea/distributed/learnt_scores.hpp>
#include <fovea/distributed/ordered_gradients.hpp>
#include <fovea/plan/check_gradients.hpp>
#include <fovea/view/tensor.hpp>

#include <array>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// How many query rows are differentiated at a time; MPI gets to work in between. dK and dV are summed over
/// these parts: with fewer rows that sum would take a part of the time that counts.
inline constexpr index_type gradient_rows_a_part = 2048;

/// The backward pass of one call. Results: what the forward pass gave and the gradient of O (and of the LSE),
/// sequences of this rank's rows. backward(d_q, d_k, d_v, q, k, v, out, lse, d_out, d_lse, mods...) is
/// attention's on views.
template <class T, class Call, class Results, class Rules, class Backward>
class ring_backward {
 public:
  /// block: of the reproducible option, 0 without.
  ring_backward(const communicator& processes, const Call& x, const Results& results, const Rules& rules,
                const Backward& backward, index_type block)
      : rank_(processes.rank()),
        x_(x),
        sizes_(x.sizes),
        results_(results),
        rules_(rules),
        backward_(backward),
        most_rows_(block > 0 ? block : gradient_rows_a_part),
        d_q_(1, sizes_.heads, queries(), sizes_.dim),
        part_d_q_(1, sizes_.heads, std::min(queries(), most_rows_), sizes_.dim),
        part_(sizes_, block > 0 ? 0 : sizes_.most_keys(processes.ranks())),
        learnt_(rules.rules, std::min(queries(), most_rows_),
                block > 0 ? std::min(block, sizes_.longest_keys()) : sizes_.most_keys(processes.ranks()),
                block > 0 && sizes_.batches > 1),
        sink_sums_(sink_learns ? sizes_.heads : 0) {}

  /// One step of a walk over keys, whose gradients are added to `sum`.
  template <class EachBlock, class Progress>
  void step(int owner, key_gradients<T>& sum, const EachBlock& each_block, const Progress& progress) {
    each_block([&](const auto& block, index_type row) {
      const index_type held = sizes_.keys[static_cast<std::size_t>(block.b)].held(owner),
                       tokens = block.k.tokens;
      const index_type before = sizes_.keys_before(owner, block.b);
      const auto d_k = sum.d_k.view(before, held, {row, row + tokens});
      const auto d_v = sum.d_v.view(before, held, {row, row + tokens});
      each_part(block.b, [&](const slice& part) {
        const auto more_d_k = part_.d_k.view(0, tokens, {0, tokens}),
                   more_d_v = part_.d_v.view(0, tokens, {0, tokens});
        if (differentiate(part, block, more_d_k, more_d_v))
          add_elements(more_d_k, d_k), add_elements(more_d_v, d_v);
        progress();
      });
    });
  }

  /// One block of keys, whose gradients are summed in the order of the sequence.
  template <class Block, class Progress>
  void step(ordered_gradients<T>& sums, const Block& block, const Progress& progress) {
    const range keys{0, block.k.tokens};
    each_part(block.b, [&](const slice& part) {
      sums.add(part.first, keys.size(), [&](key_gradients<T>& to) {
        return differentiate(part, block, to.d_k.view(0, keys.size(), keys),
                             to.d_v.view(0, keys.size(), keys));
      });
      progress();
    });
  }

  /// dQ in its place, and the gradients of scores' and the sink's parameters, summed over the ranks.
  /// Allocates nothing: a rank that failed between sums would leave the others waiting.
  template <class E>
  void finish(const communicator& processes, const sequences<E>& d_q) {
    for (index_type b = 0; b < sizes_.batches; ++b) {
      const range all{0, x_.q.tokens(b)};
      copy_elements(tensor_view<const T>(d_q_rows(b, all)), rows_of(d_q, b, all));
    }
    learnt_.finish(processes);
    if constexpr (sink_learns) {
      for (index_type h = 0; h < sizes_.heads; ++h)
        for (index_type b = 0; b < sizes_.batches; ++b) add_sink_terms(sink_sums_, b, h);
      sink_sums_.add_ranks(processes);
      for (index_type h = 0; h < sizes_.heads; ++h)
        rules_.sink.set_gradient(sizes_.first_head + h, sink_sums_.value(h));
    }
  }

 private:
  static constexpr bool sink_learns =
      requires(const typename Rules::sink_type& sink) { sink.set_gradient(index_type(0), 0.0); };
  index_type queries() const noexcept { return sizes_.held_before(sizes_.queries, rank_, sizes_.batches); }
  tensor_view<T> d_q_rows(index_type b, range rows) noexcept {
    tensor_view<T> view = d_q_.view();
    view.data += (sizes_.held_before(sizes_.queries, rank_, b) + rows.first) * view.token_stride;
    view.tokens = rows.size();
    return view;
  }

  /// f(slice) for parts of the rows that stand side by side in the sequence.
  template <class F>
  void each_part(index_type b, const F& f) const {
    for (const slice& all : sizes_.queries[static_cast<std::size_t>(b)].of(rank_))
      for (index_type at = 0; at < all.count; at += most_rows_)
        f(slice{all.row + at, all.first + at, std::min(most_rows_, all.count - at)});
  }
  /// Adds to dQ what a block of keys gives for a part of the rows, and writes what these give for its dK and
  /// dV; false, and nothing, where none of them sees it.
  template <class Block>
  bool differentiate(const slice& part, const Block& block, tensor_view<T> d_k, tensor_view<T> d_v) {
    slice_place at = sizes_.place_of(block.b);
    at.first_query = part.first, at.first_key = block.first;
    if (hides_all(rules_.rules, at, sizes_.heads, part.count, block.k.tokens)) return false;
    const range rows{part.row, part.row + part.count};
    tensor_view<T> more_d_q = part_d_q_.view();
    more_d_q.tokens = part.count;
    learnt_.add(rules_.dropout, at, part.count, block.k.tokens, [&](const auto&... mods) {
      backward_(more_d_q, d_k, d_v, rows_of(x_.q, block.b, rows), block.k, block.v,
                rows_of(results_.out, block.b, rows), rows_of(results_.lse, block.b, rows),
                rows_of(results_.d_out, block.b, rows), rows_or_none(results_.d_lse, block.b, rows), mods...);
    });
    add_elements(more_d_q, d_q_rows(block.b, rows));
    return true;
  }
  template <class E>
  static tensor_view<E> rows_or_none(const sequences<E>& x, index_type b, range rows) noexcept {
    return x.all.data == nullptr ? tensor_view<E>{} : rows_of(x, b, rows);
  }

  /// -P_sink (sum_c dO O - dLSE) of each of this rank's rows.
  void add_sink_terms(exact_sums<double>& sums, index_type b, index_type h) const noexcept {
    const auto out = results_.out.head(b, h), d_out = results_.d_out.head(b, h);
    const auto lse = results_.lse.head(b, h), d_lse = results_.d_lse.head(b, h);
    for (index_type i = 0; i < lse.rows; ++i) {
      const auto natural = static_cast<double>(lse(i, 0));
      if (natural == -std::numeric_limits<double>::infinity()) continue;
      double delta = d_lse.data ? -static_cast<double>(d_lse(i, 0)) : 0;
      for (index_type c = 0; c < out.cols; ++c)
        delta += load_element<double>(out(i, c)) * load_element<double>(d_out(i, c));
      sums.add(h, -std::exp(static_cast<double>(rules_.sink.logit(sizes_.first_head + h)) - natural) * delta);
    }
  }

  int rank_;
  const Call& x_;
  const ring_sizes& sizes_;
  const Results& results_;
  const Rules& rules_;
  const Backward& backward_;
  index_type most_rows_;
  tensor<T> d_q_, part_d_q_;
  key_gradients<T> part_;
  learnt_scores<T, typename Rules::rules_type> learnt_;
  exact_sums<double> sink_sums_;
};

/// Whether all ranks want the same gradients of parameters, of the same sizes: what is wanted is summed over
/// ranks. Throws on all ranks the same. Called where kinds of rules are known to agree; two MPI_Allgathers.
template <class Rules>
void agree_on_gradients(const communicator& processes, const Rules& all) {
  constexpr std::array what{"sequences", "heads", "rows (queries, slots)", "columns (keys)"};
  constexpr std::size_t each = what.size() + 1;
  std::vector<const char*> names;
  std::vector<std::int64_t> own;
  const auto add = [&](const char* name, bool wanted, auto... sizes) {
    names.push_back(name), own.push_back(wanted), (own.push_back(wanted ? sizes : 0), ...);
  };
  together(processes, [&] {
    all.rules.scores.each([&]<class Score>(const Score& score) {
      if constexpr (learning_score<Score>) {
        const auto to = score.gradient();
        add(gradient_name<Score>, to.data != nullptr, to.batch, to.heads, to.queries, to.keys);
      } else if constexpr (slot_learning_score<Score>) {
        const auto to = score.slots();
        add(gradient_name<Score>, to.data != nullptr, to.batch, to.dim, to.tokens, to.heads);
      }
    });
    if constexpr (requires { all.sink.gradient(); }) {
      const auto to = all.sink.gradient();
      add("sink's d_logits", !to.empty(), 1, static_cast<index_type>(to.size()), 1, 1);
    }
  });
  agreement count;
  count.add("the number of scores and sinks with parameters", static_cast<index_type>(names.size()));
  count.settle(processes);
  if (names.empty()) return;
  const numbers_of_ranks of_all(processes, own);
  for (int r = 1; r < processes.ranks(); ++r)
    for (std::size_t i = 0; i < own.size(); ++i) {
      const index_type at = static_cast<index_type>(i), has = of_all.at(r, at), other = of_all.at(0, at);
      if (has == other) continue;
      if (i % each == 0)
        reject(names[i / each], " is ", has ? "wanted" : "not wanted", " on rank ", r, " but ",
               other ? "wanted" : "not wanted", " on rank 0");
      reject(names[i / each], " has ", has, " ", what[i % each - 1], " on rank ", r, " but ", other,
             " on rank 0");
    }
}

/// Whether what the forward pass gave fits the call, and the results can be written.
template <class Call, class Results, class Rules, class DQ, class DK, class DV, class... Mods>
void check_gradients(const Call& x, const Results& given, const Rules& rules, const sequences<DQ>& d_q,
                     const sequences<DK>& d_k, const sequences<DV>& d_v, const Mods&... mods) {
  check_like("out", given.out, "q", x.q, x.v.dim()), check_like("lse", given.lse, "q", x.q, 1);
  check_like("d_out", given.d_out, "q", x.q, x.v.dim());
  if (given.d_lse.all.data != nullptr) check_like("d_lse", given.d_lse, "q", x.q, 1);
  check_result("d_q", d_q, "q", x.q, x.q.dim()), check_result("d_k", d_k, "k", x.k, x.k.dim());
  check_result("d_v", d_v, "v", x.v, x.v.dim());
  results<3 + sizeof...(Mods)> written;
  written.add("d_q", d_q.all), written.add("d_k", d_k.all), written.add("d_v", d_v.all);
  each_parameter_gradient(rules, [&](const char* name, const auto& to) {
    if (x.sizes.heads != x.sizes.heads_in_all)
      reject(name, " is wanted, but this rank has ", x.sizes.heads, " of ", x.sizes.heads_in_all,
             " heads: gradients of parameters need all");
    written.add(name, to);
  });
  const auto read = [&](const char* name, const auto& y) { written.check_apart_from(name, y); };
  read("q", x.q), read("k", x.k), read("v", x.v), read("out", given.out), read("lse", given.lse);
  read("d_out", given.d_out), read("d_lse", given.d_lse), (each_operand_of(mods, read), ...);
}

}  // namespace distributed
FOVEA_NAMESPACE_END
