// The error bound on random configurations of everything at once; a failure prints the seed that makes it
// again.
#include "run.hpp"

namespace fovea_test {
namespace {

index_type small_size(random_source& random, index_type most) {
  return random.chance(0.3) ? random.integer(0, 4) : random.integer(0, random.chance(0.3) ? most : most / 4);
}

/// From this seed on documents take part: before it seeds mean the problems that they meant before there
/// were documents.
constexpr std::uint64_t with_documents = 1600;
constexpr std::uint64_t with_blocks = 1800;    // and maps of blocks, and chunks
constexpr std::uint64_t with_patterns = 2000;  // and drafts, patterns and pictures
constexpr std::uint64_t with_birds = 2200;     // and prefixes, big_bird and functions of heads
constexpr std::uint64_t with_slots = 2400;     // and tables that are read through an index
constexpr std::uint64_t with_gates = 2600;     // and gates

std::vector<const subject*> subjects_of(const subject_list& all, std::uint64_t seed) {
  std::vector<const subject*> chosen;
  for (const auto& s : all)
    if ((seed >= with_documents || (s->rules.features & documents) == 0) &&
        (seed >= with_blocks || (s->rules.features & (blocks | diffusion | chunks)) == 0) &&
        (seed >= with_patterns || (s->rules.features & (drafts | pattern | picture)) == 0) &&
        (seed >= with_birds || (s->rules.features & (language_prefix | birds | of_heads)) == 0) &&
        (seed >= with_slots || (s->rules.features & any_slot) == 0) &&
        (seed >= with_gates || (s->rules.features & gates) == 0))
      chosen.push_back(s.get());
  return chosen;
}

void check_one(const subject_list& subjects, std::uint64_t seed) {
  random_source random(seed);
  const subject& s = *random.pick(subjects_of(subjects, seed));
  layout l = layout::bhsd;
  do
    l = all_layouts[static_cast<std::size_t>(
        random.integer(0, static_cast<index_type>(all_layouts.size()) - 1))];
  while (!possible(s, l));
  const index_type kv_heads = random.integer(1, 3), heads = kv_heads * random.integer(1, 4);
  const sizes n{random.integer(1, 3),
                heads,
                kv_heads,
                small_size(random, 120),
                small_size(random, 300),
                random.integer(1, random.chance(0.2) ? 80 : 20),
                small_size(random, 60)};
  problem p = random_problem(s, l, n, random.bits(), random.uniform(0.1, random.chance(0.3) ? 10 : 2));
  if (random.chance(0.3)) p.scale = random.uniform(-1, 2);
  const executor_choice::kind which[] = {executor_choice::serial, executor_choice::threads,
                                         executor_choice::shuffled};
  const executor_choice executor{which[random.integer(0, 2)], random.integer(1, 4), 7};
  SCOPED_TRACE("FOVEA_SEED=" + std::to_string(seed) + ": " + s.elements() + " " + s.rules.name + " " +
               name_of(l) + " " + words(p.n));
  expect_reference(s, l, p, executor);
}

}  // namespace

void check_random(const subject_list& subjects, std::uint64_t first_seed, int count) {
  for (int i = 0; i < count; ++i) check_one(subjects, first_seed + static_cast<std::uint64_t>(i));
}

}  // namespace fovea_test
