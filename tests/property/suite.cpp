// Every property of every subject in every layout, as tests by name: <isa>/<elements>.<rules>.<layout>,
// <property>.
#include "suite.hpp"

#include "run.hpp"

#include <cstdlib>
#include <functional>

namespace fovea_test {
namespace {

class check : public testing::Test {
 public:
  explicit check(std::function<void()> body) : body_(std::move(body)) {}
  void TestBody() override { body_(); }

 private:
  std::function<void()> body_;
};

void add_test(const std::string& suite, const std::string& name, std::function<void()> body) {
  testing::RegisterTest(suite.c_str(), name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                        [body = std::move(body)]() -> testing::Test* { return new check(body); });
}

const subject_list& subjects() {
  static const subject_list all = [] {
    subject_list subjects;
    add_f32(subjects), add_f64(subjects), add_bf16(subjects), add_f16(subjects), add_mixed(subjects);
    return subjects;
  }();
  return all;
}

void add_random_tests(const std::string& isa) {
  constexpr int configurations = 40, tests = 68;
  if (const char* seed = std::getenv("FOVEA_SEED"))
    return add_test(isa + "/random", "seed",
                    [first = std::strtoull(seed, nullptr, 10)] { check_random(subjects(), first, 1); });
  for (int i = 0; i < tests; ++i) {
    const int first = configurations * i;
    add_test(isa + "/random", "seeds_from_" + std::to_string(first),
             [first] { check_random(subjects(), static_cast<std::uint64_t>(first), configurations); });
  }
}

}  // namespace

std::string subject::elements() const {
  if (q == k && k == v && v == o) return name_of(q);
  return std::string(name_of(q)) + "_" + name_of(k) + "_" + name_of(v) + "_" + name_of(o);
}

element_kind subject::compute() const noexcept {
  const bool wide = q == element_kind::f64 || k == element_kind::f64 || v == element_kind::f64;
  return wide ? element_kind::f64 : element_kind::f32;
}

const subject& tables_of(const subject& s) {
  for (const auto& other : subjects())
    if (other->rules.features == tables && other->elements() == s.elements()) return *other;
  throw std::logic_error("no subject with tables has the elements " + s.elements());
}

void register_tests(const std::string& isa) {
  std::vector<property> properties;
  add_agreement(properties), add_symmetry(properties), add_poison(properties);
  add_extremes(properties), add_sizes(properties), add_memory(properties);
  for (const auto& s : subjects())
    for (const layout l : all_layouts)
      for (const property& p : properties) {
        if (!possible(*s, l) || !p.applies(*s, l)) continue;
        const std::string name = isa + "/" + s->elements() + "." + s->rules.name + "." + name_of(l);
        add_test(name, p.name, [&s = *s, l, checked = p.check] { checked(s, l); });
      }
  add_random_tests(isa);
}

}  // namespace fovea_test
