// tests/property/run.hpp - random problems, running them through the library, and what their results must be
// within.
#pragma once

#include "subject.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace fovea_test {

inline constexpr double infinite = std::numeric_limits<double>::infinity();

struct outcome {
  array out, lse;
  allocation_count allocated;
};

/// Sizes as near to `wanted` as the layout and the rules allow: Eigen maps are one sequence, packed heads are
/// all of one size, causal wants as many keys as queries.
sizes fitted(const subject& s, layout l, sizes wanted);
bool possible(const subject& s, layout l);

/// Random numbers in the subject's formats, and random parameters of its rules. spread: the largest |q|, |k|.
problem random_problem(const subject& s, layout l, sizes wanted, std::uint64_t seed, double spread = 2);
void round_to_formats(problem& p, const subject& s);

/// A problem in memory.
class laid_out {
 public:
  laid_out(const subject& s, layout l, const problem& p);
  laid_out(const laid_out&) = delete;

  fovea_test::call call;  // executor and workspace may be set
  /// Calls the library. Whatever is not a result must be as it was, in and around all operands.
  outcome run();
  bool untouched() const;  // nothing at all has been written

 private:
  const subject& subject_;
  const problem& problem_;
  std::vector<operand> operands_;  // q k v out lse
};

outcome run(const subject& s, layout l, const problem& p, const executor_choice& executor = {});

/// |out - expected| <= 3 u P|V| (4 + A) + rounding of the output, u: half the compute type's spacing at 1, A:
/// the row's largest logit; |lse - expected| <= 3 u (4 + A + |lse|). Rows without keys are exact.
void expect_near(const subject& s, const problem& p, const outcome& got, const expectation& want);
void expect_reference(const subject& s, layout l, const problem& p, const executor_choice& executor = {});
double bound_of(const subject& s, const problem& p, const expectation& want, index_type b, index_type h,
                index_type i, index_type c);

/// Two results of the same rows, each as near to exact as it must be.
struct checked {
  const subject& by;
  const problem& of;
  const outcome& got;
  const expectation want;
  index_type batch = 0;  // of the sequence compared
};
void expect_close(const checked& a, const checked& b, const char* what);

/// The same bits, NaN for NaN; of the sequences [0, batch), or of one row.
bool same_bits(double a, double b) noexcept;
void expect_same_bits(const problem& p, const outcome& a, const outcome& b, const char* what);
bool same_row(const outcome& a, const outcome& b, index_type batch, index_type h, index_type i);

/// Few queries, more than a register of them, and more than a tile; each against more than one block of keys.
std::vector<sizes> usual_shapes(const subject& s);

/// As usual_shapes, and more queries than a job has; each large enough that a plan wakes other workers.
std::vector<sizes> busy_shapes(const subject& s, layout l);

/// Sizes at which something changes for a subject: registers, tiles, blocks of keys, jobs of queries.
struct geometry {
  index_type lanes, tile_rows, tile_queries, key_block, few_key_block, job;
};
const geometry& geometry_of(const subject& s);

/// A property by name, and which subjects and layouts are asked for it.
struct property {
  const char* name;
  void (*check)(const subject&, layout);
  bool (*applies)(const subject&, layout) = [](const subject&, layout) { return true; };
};
template <std::uint64_t Features>
bool has_any(const subject& s, layout) {
  return (s.rules.features & Features) != 0;
}
/// What not all relatives of attention are asked for: one softmax a head, which tables can say and parts be merged
/// of; logits made of products of q and k alone.
bool is_softmax(const subject& s);
bool scores_products(const subject& s);
bool mixes_heads(const subject& s);  // what a head reads reaches all of them
template <bool (*What)(const subject&)>
bool holds(const subject& s, layout) {
  return What(s);
}
void add_agreement(std::vector<property>& to);
void add_symmetry(std::vector<property>& to);
void add_poison(std::vector<property>& to);
void add_extremes(std::vector<property>& to);
void add_sizes(std::vector<property>& to);
void add_memory(std::vector<property>& to);

/// `count` random configurations of any subject, layout, size and executor, from this seed on.
void check_random(const subject_list& subjects, std::uint64_t first_seed, int count);

/// The subject of the same elements whose rules are tables.
const subject& tables_of(const subject& s);

std::string words(const sizes& n);

}  // namespace fovea_test
