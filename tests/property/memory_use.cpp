// Scratch memory is what the plan said, and the score matrix, for looking at, is what went into the results.
#include "run.hpp"

#include <algorithm>
#include <stdexcept>

namespace fovea_test {
namespace {

constexpr std::byte canary_byte{0xa5};

bool all_canaries(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte x) { return x == canary_byte; });
}

/// One that three workers share in every layout and under every mask: four heads and more than worth_waking.
sizes shared_by_three(const subject& s, layout l) { return fitted(s, l, {2, 4, 2, 40, 600, 64, 64}); }

void workspace_is_what_the_plan_said(const subject& s, layout l) {
  index_type woken = 0;
  std::vector<sizes> shapes = usual_shapes(s);
  for (const sizes& n : busy_shapes(s, l)) shapes.push_back(n);
  shapes.push_back(shared_by_three(s, l));
  for (const sizes& n : shapes)
    for (const executor_choice& executor :
         {executor_choice{}, executor_choice{executor_choice::shuffled, 3, 61}}) {
      const problem p = random_problem(s, l, n, 61);
      laid_out memory(s, l, p);
      memory.call.executor = executor;
      const outcome own = memory.run();
      const plan_facts plan = s.plan_for(memory.call);
      woken += plan.workers > 1;
      EXPECT_EQ(own.allocated.calls, plan.allocates ? 1u : 0u);
      EXPECT_EQ(own.allocated.bytes, static_cast<std::size_t>(plan.allocates ? plan.workspace_bytes : 0))
          << plan.words;
      for (const index_type shift : {0, 1}) {
        const std::size_t size = static_cast<std::size_t>(plan.workspace_bytes);
        const std::size_t first = static_cast<std::size_t>(64 + shift);
        std::vector<std::byte> bytes(first + size + 64, canary_byte);
        memory.call.workspace = {bytes.data() + first, size};
        const outcome given = memory.run();
        EXPECT_EQ(given.allocated.calls, 0u) << "with a workspace " << plan.words;
        expect_same_bits(p, own, given, "with a workspace");
        EXPECT_TRUE(all_canaries({bytes.data(), first})) << plan.words;
        EXPECT_TRUE(all_canaries({bytes.data() + first + size, 64})) << plan.words;
      }
    }
  EXPECT_GT(woken, 0);
}

// All work is given to the last of three workers: the memory of the others stays as it was.
void workers_keep_to_their_scratch(const subject& s, layout l) {
  int shared = 0;
  std::vector<sizes> shapes = busy_shapes(s, l);
  shapes.push_back(shared_by_three(s, l));
  for (const sizes& n : shapes) {
    const problem p = random_problem(s, l, n, 64);
    laid_out memory(s, l, p);
    memory.call.executor = {executor_choice::last, 3};
    const plan_facts plan = s.plan_for(memory.call);
    if (plan.workers != 3) continue;
    ++shared;
    std::vector<std::byte> bytes(static_cast<std::size_t>(plan.workspace_bytes), canary_byte);
    memory.call.workspace = bytes;
    memory.run();
    const std::size_t others = static_cast<std::size_t>(2 * plan.scratch_bytes);
    EXPECT_TRUE(all_canaries({bytes.data(), others})) << plan.words;
    EXPECT_FALSE(all_canaries({bytes.data() + others, bytes.size() - others})) << plan.words;
  }
  EXPECT_GT(shared, 0);
}

void short_workspace_is_refused(const subject& s, layout l) {
  const problem p = random_problem(s, l, usual_shapes(s)[1], 62);
  laid_out memory(s, l, p);
  const std::size_t needed = static_cast<std::size_t>(s.plan_for(memory.call).workspace_bytes);
  ASSERT_GT(needed, 1u);
  std::vector<std::byte> bytes(needed);
  memory.call.workspace = {bytes.data(), needed - 1};
  try {
    memory.run();
    FAIL() << "a workspace of one byte too few was taken";
  } catch (const std::invalid_argument& e) {
    EXPECT_EQ(e.what(), "fovea: workspace has " + std::to_string(needed - 1) + " bytes, fewer than the " +
                            std::to_string(needed) + " of the plan");
  }
  EXPECT_TRUE(memory.untouched());
}

/// P is the result where V is the unit matrix.
expectation with_unit_values(problem p) {
  p.n.value_dim = p.n.keys;
  p.v = array(p.n.batch, p.n.kv_heads, p.n.keys, p.n.keys);
  for (index_type b = 0; b < p.n.batch; ++b)
    for (index_type h = 0; h < p.n.kv_heads; ++h)
      for (index_type j = 0; j < p.n.keys; ++j) p.v(b, h, j, j) = 1;
  return reference_of(p);
}

void weights_and_scores(const subject& s, layout l) {
  const bool wide = s.q == element_kind::f64 || s.k == element_kind::f64;
  const double u = wide ? 0x1p-53 : 0x1p-24, least = wide ? 0x1p-1022 : 0x1p-126;
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 63);
    const laid_out memory(s, l, p);
    const array weights = s.weights(memory.call), scores = s.scores(memory.call);
    const expectation want = with_unit_values(p);
    ASSERT_EQ(weights.x.size(), static_cast<std::size_t>(p.n.batch * p.n.heads * p.n.queries * p.n.keys));
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i)
          for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j) {
            if (!visible(p, b, h, i, j)) {
              ASSERT_EQ(weights(b, h, i, j), 0);
              ASSERT_EQ(scores(b, h, i, j), -std::numeric_limits<double>::infinity());
              continue;
            }
            // Two sums of logits are off in a weight: its own and the LSE; alibi and the like may cancel on
            // the way.
            const double a = 8 * (4 + want.logits(b, h, i, 0)), weight = want.out(b, h, i, j);
            ASSERT_NEAR(weights(b, h, i, j), weight, 3 * u * weight * a + least)
                << words(p.n) << " row " << i;
            ASSERT_NEAR(scores(b, h, i, j), logit(p, b, h, i, j), u * a) << words(p.n) << " row " << i;
          }
  }
}

// A pick's logit is the largest, but for what either sum of logits may be off.
void picks_are_the_largest(const subject& s, layout l) {
  const double u = s.q == element_kind::f64 || s.k == element_kind::f64 ? 0x1p-53 : 0x1p-24;
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 64);
    const laid_out memory(s, l, p);
    const array picks = s.picks(memory.call);
    const expectation want = reference_of(p);
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
          const double sunk = s.rules.features & sink ? p.rules.sinks[static_cast<std::size_t>(h)]
                                                      : -std::numeric_limits<double>::infinity();
          double most = sunk;
          for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j)
            if (visible(p, b, h, i, j)) most = std::max(most, logit(p, b, h, i, j));
          const auto pick = static_cast<index_type>(picks(b, h, i, 0));
          ASSERT_TRUE(pick < 0 || visible(p, b, h, i, pick)) << words(p.n) << " row " << i;
          const double picked = pick < 0 ? sunk : logit(p, b, h, i, pick);
          if (most > picked) {
            ASSERT_LE(most - picked, 2 * u * 8 * (4 + want.logits(b, h, i, 0))) << words(p.n) << " row " << i;
          }
        }
  }
}

}  // namespace

void add_memory(std::vector<property>& to) {
  const auto has_plan = [](const subject& s, layout) { return s.has_plan(); };
  to.push_back({"workspace_is_what_the_plan_said", workspace_is_what_the_plan_said, has_plan});
  to.push_back({"workers_keep_to_their_scratch", workers_keep_to_their_scratch, has_plan});
  to.push_back({"short_workspace_is_refused", short_workspace_is_refused, has_plan});
  to.push_back(
      {"weights_and_scores", weights_and_scores, [](const subject& s, layout) { return s.has_matrix(); }});
  to.push_back({"picks_are_the_largest", picks_are_the_largest,
                [](const subject& s, layout) { return s.has_matrix(); }});
}

}  // namespace fovea_test
