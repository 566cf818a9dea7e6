// fovea/plan/jobs.hpp - how a call is cut into jobs, and how they run.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/emit.hpp>
#include <fovea/plan/plan.hpp>

#include <cstdint>
#include <memory>
#include <span>

FOVEA_NAMESPACE_BEGIN

/// A job: query rows of one query head, queries in lanes; or, dim in lanes, rows of a key/value head, where
/// row r is query queries.first + r % queries.size() of the group's head r / queries.size().
struct job {
  bool dim_in_lanes;
  index head;  // query head, or key/value head
  range queries, rows;
};

/// How the query rows of one sequence become jobs. It depends on this sequence alone, so that it gets the
/// same bits whether it comes alone or in a batch, and whoever runs the jobs.
template <class Arch, class T>
struct job_cut {
  using shape = kernel::geometry<Arch>;
  static constexpr index n = kernel::lanes<Arch, T>;
  static constexpr index kept_bytes =
      256 * 1024;  // aim: what a job keeps, with a block of K and V, stays in L2

  index queries, group, heads, kv_heads, dim, value_dim;

  /// Queries from here on go with dim in lanes. All, where they are few; but where none shares its keys with
  /// another head and dim is small, or rows are no whole registers and must be copied, lanes that are mostly
  /// empty are as fast from 4 queries on (dim 16; 6 for dim 32). Else the last ones, where they would fill
  /// less than a third of a register: with 33 queries of dim 256 that takes 25 % less time.
  FOVEA_INLINE index queries_in_lanes() const noexcept {
    const index few = group > 1 ? index(shape::few_rows) : 1 + 2 * dim / n;
    if (queries <= std::min(few, index(shape::few_rows))) return 0;
    const index rest = queries % n;
    return queries > n && rest <= n / 3 ? queries - rest : queries;
  }
  FOVEA_INLINE range queries_in_rows() const noexcept { return {queries_in_lanes(), queries}; }

  /// Query rows of a job of each kind.
  FOVEA_INLINE index lanes_a_job() const noexcept {
    const index a_register = n * (dim + value_dim + 2) * static_cast<index>(sizeof(T));
    const index most =
        std::clamp<index>(kept_bytes / a_register, shape::tile_vectors, shape::panels * shape::tile_vectors);
    const index registers = ceil_div(queries_in_lanes(), n);
    const index blocks = std::max<index>(1, (registers + most / 2) / most);
    return n * round_up(ceil_div(registers, blocks), blocks == 1 ? 1 : index(shape::tile_vectors));
  }
  FOVEA_INLINE index rows_a_job() const noexcept { return std::min(rows(), 8 * index(shape::few_rows)); }
  FOVEA_INLINE index rows() const noexcept { return queries_in_rows().size() * group; }

  FOVEA_INLINE index lane_jobs() const noexcept { return heads * jobs_of(queries_in_lanes(), lanes_a_job()); }
  FOVEA_INLINE index row_jobs() const noexcept { return kv_heads * jobs_of(rows(), rows_a_job()); }
  FOVEA_INLINE index count() const noexcept { return lane_jobs() + row_jobs(); }

  /// Late blocks of rows come first: under a causal mask they are the longest.
  FOVEA_INLINE job at(index i) const noexcept {
    const bool in_rows = i >= lane_jobs();
    const index all = in_rows ? rows() : queries_in_lanes(), a_job = in_rows ? rows_a_job() : lanes_a_job();
    const index j = in_rows ? i - lane_jobs() : i, blocks = jobs_of(all, a_job),
                block = blocks - 1 - j % blocks;
    return {in_rows, j / blocks, queries_in_rows(), {block * a_job, std::min((block + 1) * a_job, all)}};
  }

 private:
  FOVEA_INLINE static index jobs_of(index all, index a_job) noexcept {
    return all == 0 ? 0 : ceil_div(all, a_job);
  }
};

template <class Arch, class Problem>
FOVEA_INLINE auto cut_of(const Problem& p, index b) noexcept {
  return job_cut<Arch, typename Problem::compute>{p.q.tokens(b), p.group(), p.heads(),
                                                  p.k.all.heads, p.dim(),   p.value_dim()};
}

/// Work below which a call stays on its thread: waking another one costs about as much (some 10 us).
inline constexpr double worth_waking = 1e6;

/// Operations of a call without a mask: 2 Lq Lk (d + dv) a head.
template <class Problem>
FOVEA_INLINE double operations(const Problem& p) noexcept {
  double cells = 0;
  for (index b = 0; b < p.q.batches(); ++b)
    cells += static_cast<double>(p.q.tokens(b)) * static_cast<double>(p.k.tokens(b));
  return 2 * cells * static_cast<double>(p.heads() * (p.dim() + p.value_dim()));
}

template <class Arch, class Problem>
FOVEA_INLINE plan make_plan(const Problem& p, index workers) noexcept {
  using T = typename Problem::compute;
  using shape = kernel::geometry<Arch>;
  constexpr index n = kernel::lanes<Arch, T>;
  plan made{.batches = p.q.batches(),
            .heads = p.heads(),
            .kv_heads = p.k.all.heads,
            .queries = p.q.max_tokens(),
            .keys = p.k.max_tokens(),
            .dim = p.dim(),
            .value_dim = p.value_dim(),
            .lanes = n,
            .compute_bytes = static_cast<index>(sizeof(T)),
            .tile_rows = shape::tile_rows,
            .tile_vectors = shape::tile_vectors};
  const auto copies = [&](const auto& x, index width, index block) FOVEA_INLINE_LAMBDA {
    const bool direct = kernel::operand_of<Arch>(x.head(0, 0), width, static_cast<T*>(nullptr)).direct();
    return direct ? index(0) : block * width;
  };
  const auto needs = [&](index kept, index logits, index key_copy, index value_copy) FOVEA_INLINE_LAMBDA {
    made.kept = std::max(made.kept, kept);
    made.logits = std::max(made.logits, logits);
    made.key_copy = std::max(made.key_copy, key_copy);
    made.value_copy = std::max(made.value_copy, value_copy);
  };
  for (index b = 0; b < made.batches; ++b) {
    const auto cut = cut_of<Arch>(p, b);
    if (cut.count() == 0) continue;
    made.jobs_a_sequence = std::max(made.jobs_a_sequence, cut.count());
    if (cut.lane_jobs() > 0) {
      const index block =
          p.k.tokens(b) <= shape::short_block ? index(shape::short_block) : index(shape::key_block);
      const index registers = cut.lanes_a_job() / n;
      made.queries_form = true;
      made.rows_a_job = std::max(made.rows_a_job, cut.lanes_a_job());
      made.key_block = std::max(made.key_block, block);
      needs(registers *
                kernel::query_panel<Arch, T, 1, Problem::units>::kept_elements(made.dim, made.value_dim),
            std::min(block, p.k.tokens(b)) * n * std::min(index(shape::tile_vectors), registers),
            copies(p.k, made.dim, block), copies(p.v, made.value_dim, block));
    }
    if (cut.row_jobs() > 0) {
      using panel = kernel::row_panel<Arch, T, Problem::units>;
      constexpr index block = shape::few_rows_block;
      made.rows_form = true;
      made.rows_a_job = std::max(made.rows_a_job, cut.rows_a_job());
      made.key_block = std::max(made.key_block, block);
      needs(ceil_div(cut.rows_a_job(), panel::max_rows) * panel::kept_elements(made.dim, made.value_dim),
            panel::logit_elements, copies(p.k, panel::read_width(made.dim), block),
            copies(p.v, panel::read_width(made.value_dim), block));
    }
  }
  made.copies_keys = made.key_copy > 0;
  made.copies_values = made.value_copy > 0;
  made.jobs = made.batches * made.jobs_a_sequence;
  made.workers = made.jobs > 1 && operations(p) > worth_waking ? workers : 1;
  return made;
}

/// Adds to a plan how many blocks of a job's rows x key_block keys the mask shows whole, in part, or not at
/// all.
template <class Arch, class Problem>
FOVEA_INLINE void count_coverage(const Problem& p, plan& made) noexcept {
  index seen[3] = {0, 0, 0};
  made.shortest_span = made.keys;
  for (index b = 0; b < made.batches; ++b)
    for (index h = 0; h < made.heads; ++h) {
      const auto rules = p.rules.bind(p.at(b, h));
      const index queries = p.q.tokens(b), keys = p.k.tokens(b), step = std::max<index>(1, made.rows_a_job);
      for (index i = 0; i < queries; i += step) {
        range span{keys, 0};
        for (index j = 0; j < keys; j += made.key_block) {
          const range rows{i, std::min(i + step, queries)}, block{j, std::min(j + made.key_block, keys)};
          const bool out = intersect(block, reach_of(rules.mask, rows, keys)).empty();
          const coverage covered = out ? coverage::none : cover_of(rules.mask, rows, block);
          ++seen[static_cast<int>(covered)];
          if (covered != coverage::none) span = {std::min(span.first, j), block.last};
        }
        made.shortest_span = std::min(made.shortest_span, span.size());
        made.longest_span = std::max(made.longest_span, span.size());
      }
    }
  made.hidden_blocks = seen[0], made.partial_blocks = seen[1], made.full_blocks = seen[2];
}

/// Memory for all workers of a plan: the user's where given (at least workspace_bytes(), checked by the API),
/// else own; on the stack where it is little, as allocating took a tenth of a call of a few microseconds.
class workspace {
 public:
  FOVEA_INLINE workspace(const plan& made, std::span<std::byte> given) : plan_(made) {
    const std::size_t bytes = static_cast<std::size_t>(made.workspace_bytes());
    if (given.empty() && made.allocates()) own_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    std::byte* const memory = !given.empty() ? given.data() : own_ ? own_.get() : near_;
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    first_ =
        memory + (static_cast<std::uintptr_t>(round_up(static_cast<index>(start), plan::alignment)) - start);
  }

  workspace(const workspace&) = delete;
  FOVEA_INLINE ~workspace() = default;

  template <class T>
  FOVEA_INLINE kernel::scratch<T> of_worker(index worker) const noexcept {
    std::byte* at = first_ + worker * plan_.scratch_bytes();
    const auto take = [&](index elements) FOVEA_INLINE_LAMBDA {
      T* part = reinterpret_cast<T*>(at);
      at += plan_.part_bytes(elements);
      return part;
    };
    kernel::scratch<T> memory;
    memory.kept = take(plan_.kept);
    memory.logits = take(plan_.logits);
    memory.keys = take(plan_.key_copy);
    memory.values = take(plan_.value_copy);
    return memory;
  }

 private:
  alignas(plan::alignment) std::byte near_[plan::on_stack];
  const plan& plan_;
  std::unique_ptr<std::byte[]> own_;
  std::byte* first_ = nullptr;
};

/// The whole call.
template <class Arch, class Problem>
FOVEA_INLINE void run(const Problem& p, const plan& made, executor_ref executor, std::span<std::byte> given) {
  using T = typename Problem::compute;
  const workspace memory(made, given);
  const auto run_job = [&](index i, index worker) {
    const index b = i / made.jobs_a_sequence;
    const auto cut = cut_of<Arch>(p, b);
    if (i % made.jobs_a_sequence >= cut.count()) return;
    const job mine = cut.at(i % made.jobs_a_sequence);
    const auto scratch = memory.of_worker<T>(worker);
    if (mine.dim_in_lanes)
      kernel::attend_rows<Arch>(p, b, mine.head, mine.queries, mine.rows, scratch);
    else
      kernel::attend_queries<Arch>(p, b, mine.head, mine.rows, scratch);
  };
  (made.workers > 1 ? executor : executor_ref()).for_each(made.jobs, run_job);
}

/// Score matrices of the query heads `heads`, to to(batch, head - heads.first, query, key): see
/// kernel/emit.hpp.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_INLINE void emit_all(const Problem& p, range heads, const sequences<T>& to, bool probabilities) {
  using shape = kernel::geometry<Arch>;
  constexpr index rows = shape::panels * shape::tile_vectors * kernel::lanes<Arch, T>;
  plan made{.compute_bytes = static_cast<index>(sizeof(T)), .jobs = 1};
  made.kept = rows * (p.dim() + 2);
  made.logits = shape::key_block * shape::tile_vectors * kernel::lanes<Arch, T>;
  made.key_copy = shape::key_block * p.dim();
  const workspace memory(made, {});
  for (index b = 0; b < p.q.batches(); ++b)
    for (index h = heads.first; h < heads.last; ++h)
      for (index first = 0; first < p.q.tokens(b); first += rows) {
        auto matrix = to.head(b, h - heads.first);
        matrix.cols = p.k.tokens(b);
        const auto lse = p.lse.head(b, h);
        kernel::emit_queries<Arch>(p, b, h, range{first, std::min(first + rows, p.q.tokens(b))},
                                   memory.template of_worker<T>(0), matrix, probabilities ? &lse : nullptr);
      }
}

FOVEA_NAMESPACE_END
