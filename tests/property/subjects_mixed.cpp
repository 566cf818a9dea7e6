#include "typed_subject.hpp"

namespace fovea_test {
namespace {

// Without rules, with all of them, and as tables: what elements have to do with rules is their type only.
template <element_kind Q, element_kind K, element_kind V, element_kind O>
void add_mixture(subject_list& to) {
  constexpr std::size_t last = all_rules.size() - 1;
  add_kinds<Q, K, V, O>(to, std::index_sequence<0, last - 1, last>());
}

}  // namespace

void add_mixed(subject_list& to) {
  using enum element_kind;
  add_mixture<f32, bf16, f16, f32>(to);
  add_mixture<bf16, f32, bf16, f16>(to);
  add_mixture<f32, f32, f64, f64>(to);
}

}  // namespace fovea_test
