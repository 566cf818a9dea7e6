// The subjects whose products are made of pairs of bf16: exact, and with rounded weights.
#include "typed_subject.hpp"

namespace fovea_test {

void add_f32(subject_list&) {}
void add_f64(subject_list&) {}
void add_bf16(subject_list& to) {
  using enum element_kind;
  constexpr std::size_t last = all_rules.size() - 1;
  static_assert(fovea::kernel::multiplies_pairs<xsimd::default_arch>);
  add_kinds<bf16, bf16, bf16, bf16>(to, std::index_sequence<0, 1, last - 1, last>());
  add_kinds<bf16, bf16, bf16, f32>(to, std::index_sequence<last - 1, last>());
  const auto add = [&]<std::uint64_t Features>(const char* name) {
    constexpr std::uint64_t features = Features | rounds;
    to.push_back(
        std::make_unique<typed_subject<bf16, bf16, bf16, f32, features>>(rules_kind{features, name}));
  };
  add.operator()<0>("rounded"), add.operator()<causal>("rounded_causal");
  add.operator()<joined_masks>("rounded_joined_masks"), add.operator()<everything>("rounded_everything");
}
void add_f16(subject_list&) {}
void add_mixed(subject_list& to) {
  using enum element_kind;
  constexpr std::size_t last = all_rules.size() - 1;
  add_kinds<bf16, bf16, f32, bf16>(to, std::index_sequence<0, last>());
}

}  // namespace fovea_test
