// tests/property/subject.hpp - the library as the properties see it: one combination of elements and rules
// behind an interface without templates, so that a property is compiled once, and the library once an
// instruction set.
#pragma once

#include "../support/allocations.hpp"
#include "memory.hpp"

#include <cstddef>
#include <memory>
#include <span>

namespace fovea_test {

struct executor_choice {
  enum kind { serial, threads, shuffled, last } which = serial;
  index_type workers = 1;
  std::uint64_t seed =
      0;  // shuffled: the order of tasks, and which worker each one gets; last: the last gets all
};

/// A call of the library, all in memory.
struct call {
  view_kind views = view_kind::tensor;
  memory_view q, k, v, out, lse;
  index_type batch = 0, heads = 0, kv_heads = 0;
  std::optional<double> scale;
  const fovea_test::rules* rules = nullptr;
  executor_choice executor;
  std::span<std::byte> workspace;
};

struct plan_facts {
  index_type workspace_bytes, scratch_bytes, jobs, workers, lanes, tile_rows, tile_vectors, key_block,
      rows_a_job;
  bool rows_form, allocates;
  std::string words;
};

class subject {
 public:
  subject(rules_kind kind, element_kind query, element_kind key, element_kind value, element_kind out)
      : rules(kind), q(query), k(key), v(value), o(out) {}
  virtual ~subject() = default;

  /// attention::with_lse_into; returns what was allocated meanwhile.
  virtual allocation_count attend(const call& c) const = 0;
  virtual plan_facts plan_for(const call& c) const = 0;
  /// Whether products of queries and keys, and of weights and values, take subnormal numbers for 0.
  virtual bool flushes_keys() const noexcept = 0;
  virtual bool flushes_values() const noexcept = 0;
  virtual bool has_plan() const noexcept = 0;    // whether plan_for may be called
  virtual bool has_matrix() const noexcept = 0;  // whether weights, scores and picks may be called
  /// attention::weights, scores: batch x heads x queries x keys.
  virtual array weights(const call& c) const = 0;
  virtual array scores(const call& c) const = 0;
  /// hard::picks of argmax, batch x heads x queries x 1.
  virtual array picks(const call& c) const = 0;

  /// The elements' name, as "f32" or "f32_bf16_bf16_f32".
  std::string elements() const;
  element_kind compute() const noexcept;

  const rules_kind rules;
  const element_kind q, k, v, o;
};

using subject_list = std::vector<std::unique_ptr<subject>>;

/// A part of the keys' result: merge of partial.hpp, in place.
void merge_parts(array& out, array& lse, const array& other_out, const array& other_lse);

// subjects_*.cpp, one a file so that two processors compile at once.
void add_f32(subject_list& to);
void add_f64(subject_list& to);
void add_bf16(subject_list& to);
void add_f16(subject_list& to);
void add_mixed(subject_list& to);

}  // namespace fovea_test
