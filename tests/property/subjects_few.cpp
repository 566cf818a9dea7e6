// The subjects of a build with sanitizers, which takes long to compile and runs slowly: float, without rules, with
// all of them, and as tables.
#include "typed_subject.hpp"

namespace fovea_test {

void add_f32(subject_list& to) {
  using enum element_kind;
  constexpr std::size_t last = all_rules.size() - 1;
  add_kinds<f32, f32, f32, f32>(to, std::index_sequence<0, last - 1, last>());
}
void add_f64(subject_list&) {}
void add_bf16(subject_list&) {}
void add_f16(subject_list&) {}
void add_mixed(subject_list&) {}

}  // namespace fovea_test
