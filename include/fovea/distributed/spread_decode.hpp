// fovea/distributed/spread_decode.hpp - decoding with a cache that is spread over ranks.
//
//   fovea::kv_cache<fovea::bf16, 8> cache{capacity, d};      // this rank's part of the sequence's tokens
//   fovea::spread_decode<float, 32, 8> attend{MPI_COMM_WORLD};
//   attend.into(o, q_new, cache, fovea::causal);             // q_new, and o in the end, on every rank
#pragma once

#include <fovea/attention.hpp>
#include <fovea/distributed/call_rules.hpp>
#include <fovea/distributed/row_sums.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// Records of {lse, o...} of one row each: into[i] <- from[i] merged with into[i], as merge_into merges
/// (partial.hpp).
template <class T>
void merge_records(void* from, void* into, int* count, MPI_Datatype* record) {
  MPI_Aint least = 0, bytes = 0;
  MPI_Type_get_extent(*record, &least, &bytes);
  const index_type width = bytes / static_cast<index_type>(sizeof(T));
  for (index_type i = 0; i < *count; ++i) {
    const T* const a = static_cast<const T*>(from) + i * width;
    T* const b = static_cast<T*>(into) + i * width;
    if (a[0] == -std::numeric_limits<T>::infinity()) continue;
    const bool b_saw_none = b[0] == -std::numeric_limits<T>::infinity();
    const T larger = a[0] > b[0] ? a[0] : b[0];
    T of_a = std::exp(a[0] - larger), of_b = std::exp(b[0] - larger);
    const T sum = of_a + of_b;
    of_a /= sum, of_b /= sum;
    for (index_type c = 1; c < width; ++c) b[c] = b_saw_none ? a[c] : a[c] * of_a + b[c] * of_b;
    b[0] = larger + std::log(sum);
  }
}

/// The records as MPI sees them, and the operation on them. It is said not to commute: partial results are
/// then merged in the order of the ranks, and all ranks get the same bits.
template <class T>
class merge_operation {
 public:
  explicit merge_operation(index_type columns) {
    MPI_Type_contiguous(static_cast<int>(columns + 1), std::is_same_v<T, double> ? MPI_DOUBLE : MPI_FLOAT,
                        &record_);
    MPI_Type_commit(&record_);
    MPI_Op_create(&merge_records<T>, 0, &merge_);
  }
  merge_operation(const merge_operation&) = delete;
  merge_operation& operator=(const merge_operation&) = delete;
  ~merge_operation() { MPI_Op_free(&merge_), MPI_Type_free(&record_); }
  void all_reduce(const communicator& processes, T* records, index_type count) const {
    MPI_Allreduce(MPI_IN_PLACE, records, static_cast<int>(count), record_, merge_, processes.get());
  }

 private:
  MPI_Datatype record_ = MPI_DATATYPE_NULL;
  MPI_Op merge_ = MPI_OP_NULL;
};

/// A number made of the bits of q.
template <class E>
std::int64_t fingerprint_of_elements(const tensor_view<E>& x) noexcept {
  std::uint64_t sum = 14695981039346656037u;
  for (index_type h = 0; h < x.heads; ++h)
    for (index_type t = 0; t < x.tokens; ++t)
      for (index_type c = 0; c < x.dim; ++c)
        sum = (sum ^ std::bit_cast<std::uint64_t>(load_element<double>(x(0, h, t, c)))) * 1099511628211u;
  return static_cast<std::int64_t>(sum >> 1);
}

}  // namespace distributed

/// Attention of a sequence's last tokens to all of its tokens, whose keys and values lie in the caches of the
/// ranks, one rank's after another's (a rank may hold none). q is the same on all ranks, and so is the
/// result, bit for bit. Masks, scores, sink and dropout speak of the whole sequence, as for a cache of all of
/// it: `causal` has the queries stand at its end.
///
/// Each rank attends to its own part; the parts {O, LSE} are merged by one MPI_Allreduce with an operation of
/// their own, Lq * heads * (dv + 1) numbers. (FlashInfer's state algebra, arXiv:2501.01005.) Two small
/// collective checks come first: errors are those of ring_attention, on all ranks. Throws
/// std::invalid_argument too where q differs between ranks.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads>
class spread_decode {
 public:
  explicit spread_decode(MPI_Comm comm, const attention_options& options = {})
      : processes_(comm), attend_(checked(options)), options_(options) {}

  int rank() const noexcept { return processes_.rank(); }
  int ranks() const noexcept { return processes_.ranks(); }

  /// Writes O into `o`, of one sequence, like q. `cache`: this rank's part, of one sequence; any cache, or
  /// what has keys() and values().
  template <class O, class Q, key_value_cache Cache, class... Mods>
  void into(O&& o, const Q& q, const Cache& cache, const Mods&... mods) const {
    static_assert((modifier<Mods> && ...),
                  "fovea: calls over ranks take masks, scores, a sink and a dropout");
    const auto& keys = cache.keys();
    const auto& values = cache.values();
    using compute = common_compute_t<T, element_of<decltype(keys)>, element_of<decltype(values)>>;
    sequences<const element_of<Q>> queries;
    sequences<element_of<O>> out;
    distributed::ring_sizes sizes;
    index_type own_keys = 0;
    distributed::agreement same;
    distributed::together(processes_, [&] {
      const index_type heads = query_heads<Heads>(options_, q);
      const index_type kv_heads = key_value_heads<KVHeads>(options_, heads);
      queries = read_only(view_of(q, heads, "q")), out = view_of(o, heads, "o");
      const auto k = as_sequences(keys, kv_heads, "k");
      const auto v = as_sequences(values, kv_heads, "v");
      check_same("q", "sequences", queries.batches(), "a call over ranks", index_type(1));
      check_same("k", "sequences", k.batches(), "a call over ranks", index_type(1));
      check_same("q", "dimensions a head", queries.dim(), "k", k.dim());
      check_result("o", out, "q", queries, v.dim()), check_apart_or_same("o", out, "q", queries);
      sizes = {1, heads, kv_heads, queries.dim(), v.dim(), 0, heads};
      own_keys = k.tokens(0);
      same.add("the number of query heads", heads), same.add("the number of key/value heads", kv_heads);
      same.add("the number of queries", queries.tokens(0)), same.add("the dimension of q and k", sizes.dim);
      same.add("the dimension of v", sizes.value_dim),
          same.add_name("the type of sums", distributed::name_of_element<compute>());
      same.add_real("the option scale (0: 1 / sqrt(dim))", options_.scale.value_or(0));
      same.add(
          "the number that q's elements are told by",
          distributed::fingerprint_of_elements(distributed::rows_of(queries, 0, {0, queries.tokens(0)})));
    });
    same.settle(processes_);
    const std::int64_t held[1] = {own_keys};
    const distributed::numbers_of_ranks all_held(processes_, held);
    const auto held_by = [&](int r) { return all_held.at(r, 0); };
    sizes.keys.emplace_back(token_layout::contiguous, ranks(), "k", held_by);
    sizes.queries.emplace_back(token_layout::contiguous, 1, "q", [&](int) { return queries.tokens(0); });
    distributed::slice_place at = sizes.place_of(0);
    at.in_cache = true, at.first_key = sizes.keys[0].of(rank())[0].first;
    const auto rules = distributed::whole_rules(mods...);
    tensor<compute> part, lse;
    std::vector<compute> records;
    const index_type rows = queries.tokens(0) * sizes.heads, width = sizes.value_dim + 1;
    distributed::agree_on_rules<compute>(
        processes_, rules, sizes,
        [&] {
          part = tensor<compute>(1, sizes.heads, queries.tokens(0), sizes.value_dim);
          lse = tensor<compute>(1, sizes.heads, queries.tokens(0), 1);
          records.resize(static_cast<std::size_t>(rows * width));
        },
        true);
    distributed::kept_failure failure;
    failure.attempt([&] {
      distributed::with_slice_rules(rules.rules, rules.dropout, at, [&](const auto&... slice_mods) {
        attend_.with_lse_into(part, lse, distributed::rows_of(queries, 0, {0, queries.tokens(0)}), cache,
                              slice_mods...);
      });
    });
    for (index_type i = 0; i < rows; ++i) {
      records[static_cast<std::size_t>(i * width)] = lse.data()[i];
      std::copy_n(part.data() + i * sizes.value_dim, sizes.value_dim, records.data() + i * width + 1);
    }
    distributed::merge_operation<compute>(sizes.value_dim).all_reduce(processes_, records.data(), rows);
    distributed::together(processes_, [&] { failure.rethrow(); });
    for (index_type i = 0; i < rows; ++i) {
      lse.data()[i] = records[static_cast<std::size_t>(i * width)];
      std::copy_n(records.data() + i * width + 1, sizes.value_dim, part.data() + i * sizes.value_dim);
    }
    if constexpr (sink_like<typename decltype(rules)::sink_type>)
      if (has_sink(rules.sink))
        for (index_type h = 0; h < sizes.heads; ++h)
          distributed::add_sink(part.view(), lse.view(), h, static_cast<double>(rules.sink.logit(h)));
    distributed::copy_elements(tensor_view<const compute>(part.view()),
                               distributed::rows_of(out, 0, {0, queries.tokens(0)}));
  }

  /// Returns O, of the kind and storage order of q.
  template <class Q, key_value_cache Cache, class... Mods>
  auto operator()(const Q& q, const Cache& cache, const Mods&... mods) const {
    decltype(make_like<T>(q, 1, 1)) out;
    distributed::together(processes_, [&] {
      const index_type heads = query_heads<Heads>(options_, q);
      const auto& values = cache.values();
      const auto v = as_sequences(values, key_value_heads<KVHeads>(options_, heads), "v");
      out = make_like<T>(q, heads, v.dim());
    });
    into(shaped_like(q, out), q, cache, mods...);
    return out;
  }

 private:
  attention<T, Heads, KVHeads> checked(const attention_options& options) const {
    std::optional<attention<T, Heads, KVHeads>> made;
    distributed::together(processes_, [&] { made.emplace(options); });
    return *made;
  }

  distributed::communicator processes_;
  attention<T, Heads, KVHeads> attend_;
  attention_options options_;
};

FOVEA_NAMESPACE_END
