// fovea/distributed/ring_forward.hpp - this rank's rows of O, as the keys of all ranks pass by.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/distributed/call_rules.hpp>
#include <fovea/distributed/key_walks.hpp>
#include <fovea/distributed/row_sums.hpp>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// How many query rows are computed at a time: their result of one block of keys stays in the caches until it
/// is merged, and MPI gets to work in between. 512 rows of 8 heads x 64 columns are 1 MiB.
inline constexpr index_type rows_a_part = 512;

/// Rows of results in the type that sums are made in, of all sequences that a rank holds: the user's own
/// memory where it is of that type, else memory of theirs.
template <class T>
class result_rows {
 public:
  result_rows(index_type heads, index_type rows, index_type columns) : own_(1, heads, rows, columns) {}
  template <class E>
  tensor_view<T> view(const sequences<E>& user, index_type b, index_type before, range rows) noexcept {
    if constexpr (std::is_same_v<E, T>)
      if (own_.size() == 0) return rows_of(user, b, rows);
    tensor_view<T> view = own_.view();
    view.data += (before + rows.first) * view.token_stride;
    view.tokens = rows.size();
    return view;
  }
  bool owns() const noexcept { return own_.size() > 0; }

 private:
  tensor<T> own_;
};

/// The forward pass of one call: attend(o, lse, q, k, v, mods...) is attention on views.
template <class T, class Call, class Out, class Rules, class Attend>
class ring_forward {
 public:
  ring_forward(const communicator& processes, const Call& x, const sequences<Out>& out,
               const sequences<T>& lse, const Rules& rules, const Attend& attend, index_type rows_at_a_time)
      : rank_(processes.rank()),
        x_(x),
        sizes_(x.sizes),
        out_(out),
        lse_(lse),
        rules_(rules),
        attend_(attend),
        most_rows_(rows_at_a_time),
        o_rows_(sizes_.heads, own_rows(!writes_in_place(x, out)), sizes_.value_dim),
        lse_rows_(sizes_.heads, own_rows(lse.all.data == nullptr), 1),
        sums_(sizes_.heads, sizes_.value_dim, std::min(most_rows_, own_rows(true))),
        begun_(static_cast<std::size_t>(own_rows(true))) {}

  /// One step of a walk over keys.
  template <class EachBlock, class Progress>
  void step(const EachBlock& each_block, const Progress& progress) {
    each_block([&](const auto& block, index_type) {
      each_part(block.b, [&](const slice& part) {
        slice_place at = sizes_.place_of(block.b);
        at.first_query = part.first, at.first_key = block.first;
        if (hides_all(rules_.rules, at, sizes_.heads, part.count, block.k.tokens)) return;
        const range rows{part.row, part.row + part.count};
        const auto q = rows_of(x_.q, block.b, rows);
        sums_.add(o_at(block.b, rows), lse_at(block.b, rows), !begun(block.b, part.row),
                  [&](const tensor_view<T>& o, const tensor_view<T>& lse) {
                    with_slice_rules(rules_.rules, rules_.dropout, at, [&](const auto&... mods) {
                      attend_(o, lse, q, block.k, block.v, mods...);
                    });
                  });
        begun(block.b, part.row) = 1;
        progress();
      });
    });
  }

  /// What is left once all keys have passed: rows that saw none, the sink, and results of another type.
  void finish() {
    for (index_type b = 0; b < sizes_.batches; ++b) {
      each_part(b, [&](const slice& part) {
        const range rows{part.row, part.row + part.count};
        const auto o = o_at(b, rows), lse = lse_at(b, rows);
        if (begun(b, part.row) == 0) clear(o, lse);
        if constexpr (sink_like<typename Rules::sink_type>)
          if (has_sink(rules_.sink))
            for (index_type h = 0; h < sizes_.heads; ++h)
              add_sink(o, lse, h, static_cast<double>(rules_.sink.logit(sizes_.first_head + h)));
      });
      const range all{0, x_.q.tokens(b)};
      if (o_rows_.owns()) copy_elements(tensor_view<const T>(o_at(b, all)), rows_of(out_, b, all));
    }
    fill_rows_of_none(out_);
    if (lse_.all.data != nullptr) fill_rows_of_none(lse_, -std::numeric_limits<T>::infinity());
  }

 private:
  static bool writes_in_place(const Call& x, const sequences<Out>& out) noexcept {
    return std::is_same_v<Out, T> && !share_memory(out.all, x.q.all);
  }
  index_type own_rows(bool needed) const noexcept {
    return needed ? sizes_.held_before(sizes_.queries, rank_, sizes_.batches) : 0;
  }
  index_type before(index_type b) const noexcept { return sizes_.held_before(sizes_.queries, rank_, b); }
  tensor_view<T> o_at(index_type b, range rows) noexcept { return o_rows_.view(out_, b, before(b), rows); }
  tensor_view<T> lse_at(index_type b, range rows) noexcept {
    return lse_rows_.view(lse_, b, before(b), rows);
  }
  char& begun(index_type b, index_type row) noexcept {
    return begun_[static_cast<std::size_t>(before(b) + row)];
  }
  /// f(slice) for parts of the rows that stand side by side in the sequence.
  template <class F>
  void each_part(index_type b, const F& f) const {
    for (const slice& all : sizes_.queries[static_cast<std::size_t>(b)].of(rank_))
      for (index_type at = 0; at < all.count; at += most_rows_)
        f(slice{all.row + at, all.first + at, std::min(most_rows_, all.count - at)});
  }
  static void clear(const tensor_view<T>& o, const tensor_view<T>& lse) noexcept {
    for (index_type h = 0; h < o.heads; ++h)
      for (index_type t = 0; t < o.tokens; ++t) {
        for (index_type c = 0; c < o.dim; ++c) o(0, h, t, c) = T(0);
        lse(0, h, t, 0) = -std::numeric_limits<T>::infinity();
      }
  }

  int rank_;
  const Call& x_;
  const ring_sizes& sizes_;
  const sequences<Out>& out_;
  const sequences<T>& lse_;
  const Rules& rules_;
  const Attend& attend_;
  index_type most_rows_;
  result_rows<T> o_rows_, lse_rows_;
  row_sums<T> sums_;
  std::vector<char> begun_;  // of a part, at its first row: whether a key was added to it
};

}  // namespace distributed
FOVEA_NAMESPACE_END
