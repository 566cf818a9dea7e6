// fovea/plan/jobs.hpp - how a call is cut into jobs, and how they run.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/kernel/emit.hpp>
#include <fovea/plan/plan.hpp>

#include <cstdint>
#include <memory>
#include <span>

FOVEA_NAMESPACE_BEGIN

/// How the rows of one sequence become jobs. It depends on this sequence alone, so that it gets the same bits
/// whether it comes alone or in a batch, and whoever runs the jobs.
template <class Arch, class T>
struct job_cut {
  using shape = kernel::geometry<Arch>;
  static constexpr index n = kernel::lanes<Arch, T>;
  static constexpr index kept_bytes =
      256 * 1024;  // aim: what a job keeps, with a block of K and V, stays in L2

  index queries, group, heads, kv_heads, dim, value_dim;

  FOVEA_INLINE bool rows_form() const noexcept { return queries <= shape::few_rows; }

  /// Query rows of a job: of a head, or of a group of heads.
  FOVEA_INLINE index rows() const noexcept {
    if (rows_form()) return std::min(queries * group, 8 * index(shape::few_rows));
    const index a_register = n * (dim + value_dim + 2) * static_cast<index>(sizeof(T));
    const index most =
        std::clamp<index>(kept_bytes / a_register, shape::tile_vectors, shape::panels * shape::tile_vectors);
    const index registers = ceil_div(queries, n), blocks = std::max<index>(1, (registers + most / 2) / most);
    return n * round_up(ceil_div(registers, blocks), blocks == 1 ? 1 : index(shape::tile_vectors));
  }
  FOVEA_INLINE index blocks() const noexcept {
    const index all = rows_form() ? queries * group : queries;
    return all == 0 ? 0 : ceil_div(all, rows());
  }
  FOVEA_INLINE index count() const noexcept { return blocks() * (rows_form() ? kv_heads : heads); }
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
  for (index b = 0; b < made.batches; ++b) {
    const auto cut = cut_of<Arch>(p, b);
    const index rows = cut.rows(), few = cut.rows_form();
    if (cut.count() == 0) continue;
    const index block = few ? shape::few_rows_block : shape::key_block;
    const index dim = few ? round_up(made.dim, n) : made.dim,
                value_dim = few ? round_up(made.value_dim, n) : made.value_dim;
    const index panels = ceil_div(rows, few ? index(shape::few_rows) : n);
    const index kept = few ? kernel::row_panel<Arch, T, Problem::units>::kept_elements(dim, value_dim)
                           : kernel::query_panel<Arch, T, 1, Problem::units>::kept_elements(dim, value_dim);
    (few ? made.rows_form : made.queries_form) = true;
    made.jobs_a_sequence = std::max(made.jobs_a_sequence, cut.count());
    made.rows_a_job = std::max(made.rows_a_job, rows);
    made.key_block = std::max(made.key_block, block);
    made.kept = std::max(made.kept, panels * kept);
    made.logits = std::max(made.logits, block * (few ? index(shape::few_rows) : n * shape::tile_vectors));
    made.key_copy = std::max(made.key_copy, copies(p.k, dim, block));
    made.value_copy = std::max(made.value_copy, copies(p.v, value_dim, block));
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
  for (index b = 0; b < made.batches; ++b)
    for (index h = 0; h < made.heads; ++h) {
      const auto rules = p.rules.bind(p.at(b, h));
      const index queries = p.q.tokens(b), keys = p.k.tokens(b), step = std::max<index>(1, made.rows_a_job);
      for (index i = 0; i < queries; i += step)
        for (index j = 0; j < keys; j += made.key_block) {
          const range rows{i, std::min(i + step, queries)}, block{j, std::min(j + made.key_block, keys)};
          const bool out = intersect(block, reach_of(rules.mask, rows, keys)).empty();
          ++seen[static_cast<int>(out ? coverage::none : cover_of(rules.mask, rows, block))];
        }
    }
  made.hidden_blocks = seen[0], made.partial_blocks = seen[1], made.full_blocks = seen[2];
}

/// Memory for all workers of a plan: the user's where given (at least workspace_bytes(), checked by the API),
/// else own.
class workspace {
 public:
  FOVEA_INLINE workspace(const plan& made, std::span<std::byte> given) : plan_(made) {
    const std::size_t bytes = static_cast<std::size_t>(made.workspace_bytes());
    if (given.empty() && bytes > 0) own_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    const auto start = reinterpret_cast<std::uintptr_t>(own_ ? own_.get() : given.data());
    const auto aligned = (start + plan::alignment - 1) / plan::alignment * plan::alignment;
    first_ = (own_ ? own_.get() : given.data()) + (aligned - start);
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
  const plan& plan_;
  std::unique_ptr<std::byte[]> own_;
  std::byte* first_ = nullptr;
};

/// Runs job i of `made`: f(batch, query head or key/value head, rows, rows_form). Late blocks of rows come
/// first: under a causal mask they are the longest.
template <class Arch, class Problem, class F>
FOVEA_INLINE void visit_job(const Problem& p, const plan& made, index i, F&& f) {
  const index b = i / made.jobs_a_sequence, j = i % made.jobs_a_sequence;
  const auto cut = cut_of<Arch>(p, b);
  if (j >= cut.count()) return;
  const index blocks = cut.blocks(), block = blocks - 1 - j % blocks;
  const index all = cut.rows_form() ? cut.queries * cut.group : cut.queries;
  f(b, j / blocks, range{block * cut.rows(), std::min((block + 1) * cut.rows(), all)}, cut.rows_form());
}

/// The whole call.
template <class Arch, class Problem>
FOVEA_INLINE void run(const Problem& p, const plan& made, executor_ref executor, std::span<std::byte> given) {
  using T = typename Problem::compute;
  const workspace memory(made, given);
  const auto job = [&](index i, index worker) {
    visit_job<Arch>(p, made, i, [&](index b, index h, range rows, bool few) {
      const auto scratch = memory.of_worker<T>(worker);
      if (few)
        kernel::attend_rows<Arch>(p, b, h, rows, scratch);
      else
        kernel::attend_queries<Arch>(p, b, h, rows, scratch);
    });
  };
  (made.workers > 1 ? executor : executor_ref()).for_each(made.jobs, job);
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
