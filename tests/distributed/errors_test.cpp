// tests/distributed/errors_test.cpp - all ranks throw the same, and none waits for another.
#include "../support/allocations.hpp"
#include "../support/refusal.hpp"
#include "support.hpp"

namespace fovea_test {
namespace {

using fovea::causal;
using ring_of_floats = fovea::ring_attention<float, 2>;

/// A call of this rank with so many tokens and dimensions, whose result must stay as it was.
struct call {
  index_type tokens = 12, dim = 8;
  fovea::ring_attention_options options = {};

  template <class Ring = ring_of_floats, class... Mods>
  void refused(const std::string& sentence, const Mods&... mods) const {
    const auto x = random_tensor<float>(1, 1, 2, tokens, dim);
    fovea::tensor<float> o(1, 2, tokens, dim);
    const Ring ring(MPI_COMM_WORLD, options);
    expect_refused([&] { ring.into(o, x, x, x, mods...); }, sentence);
    for (index_type i = 0; i < o.size(); ++i) ASSERT_EQ(o.data()[i], 0.f);
  }
};

bool on_last() { return rank_here() == ranks_here() - 1; }
std::string last() { return std::to_string(ranks_here() - 1); }

TEST(errors, ranks_that_disagree) {
  if (ranks_here() == 1) GTEST_SKIP() << "one rank agrees with itself";
  call{.dim = on_last() ? 16 : 8}.refused("the dimension of q and k is 16 on rank " + last() +
                                          " but 8 on rank 0");
  call{.options = {.scale = on_last() ? 0.25 : 0.5}}.refused(
      "the option scale (0: 1 / sqrt(dim)) is 0.25 on rank " + last() + " but 0.5 on rank 0");
  call{.options = {.layout = on_last() ? token_layout::balanced : token_layout::contiguous}}.refused(
      "the option layout (1: balanced) is 1 on rank " + last() + " but 0 on rank 0");
  call{.options = {.reproducible_block = on_last() ? 4 : 0}}.refused(
      "the option reproducible_block is 4 on rank " + last() + " but 0 on rank 0");
  call{.options = {.heads_in_all = on_last() ? 4 : 0}}.refused(
      "the option heads_in_all (0: the query heads) is 4 on rank " + last() + " but 2 on rank 0");
  const std::string elements =
      "the element that k travels in is bf16 on rank " + last() + " but float on rank 0";
  if (on_last())
    call{}.refused<fovea::ring_attention<float, 2, 2, fovea::bf16>>(elements);
  else
    call{}.refused(elements);
  const auto x = random_tensor<float>(1, on_last() ? 2 : 1, 2, 4, 8);
  const ring_of_floats ring(MPI_COMM_WORLD);
  expect_refused([&] { ring(x, x, x); },
                 "the number of sequences is 2 on rank " + last() + " but 1 on rank 0");
}

TEST(errors, masks_that_disagree) {
  if (ranks_here() == 1) GTEST_SKIP() << "one rank agrees with itself";
  const auto x = random_tensor<float>(1, 1, 2, 12, 8);
  const ring_of_floats ring(MPI_COMM_WORLD);
  expect_refused([&] { ring(x, x, x, fovea::sliding_window{.left = on_last() ? 3 : 9}); },
                 {"whether the masks show query ", "is 0 on rank", "but 1 on rank 0"});
  expect_refused([&] { ring(x, x, x, fovea::dropout{.rate = 0.5, .seed = on_last() ? 1u : 2u}); },
                 {"the number that masks and dropout are told by"});
}

/// What masks and scores read, and what they say of cells: the rank, the place and both values are named.
TEST(errors, parameters_that_disagree) {
  if (ranks_here() == 1) GTEST_SKIP() << "one rank agrees with itself";
  const index_type all = 12 * ranks_here();
  const auto x = random_tensor<float>(1, 1, 2, 12, 8);
  const ring_of_floats ring(MPI_COMM_WORLD);
  const std::string on_ranks = " on rank " + last() + " but ";
  const std::vector<float> slopes{0.5f, on_last() ? 0.25f : 0.75f};
  expect_refused([&] { ring(x, x, x, fovea::alibi{slopes}); },
                 "alibi's slopes [1] is 0.25" + on_ranks + "0.75 on rank 0");
  std::vector<int> ids(static_cast<std::size_t>(all));
  if (on_last()) ids[5] = 7;
  expect_refused([&] { ring(x, x, x, fovea::documents{ids}); },
                 "documents' ids [5] is 7" + on_ranks + "0 on rank 0");
  fovea::tensor<float> bias(1, 2, all, all);
  bias(0, 1, 5, 7) = on_last() ? 3.f : 2.f;
  expect_refused([&] { ring(x, x, x, fovea::bias(bias)); },
                 "bias [0][1][5][7] is 3" + on_ranks + "2 on rank 0");
  const std::vector<float> logits{0.f, on_last() ? 1.f : 0.f};
  expect_refused([&] { ring(x, x, x, fovea::sink{logits}); },
                 "sink's logits [1] is 1" + on_ranks + "0 on rank 0");
  const std::vector<float> signs{on_last() ? -1.f : 1.f, on_last() ? -2.f : 2.f};  // an even number of them
  expect_refused([&] { ring(x, x, x, fovea::sink{signs}); },
                 "sink's logits [0] is -1" + on_ranks + "1 on rank 0");
  const auto of_cells = [&](const auto& rule, const char* what) {
    expect_refused([&] { ring(x, x, x, rule); }, {what, "query ", "key ", ("on rank " + last()).c_str()});
  };
  of_cells(fovea::softcap{on_last() ? 2.f : 3.f}, "what the scores make of a logit of 1 at");
  const float slope = on_last() ? 0.5f : 0.25f;
  const auto fade = [slope](auto s, auto i, auto j) { return s - (i - j) * (i - j) * decltype(s)(slope); };
  of_cells(fovea::score(fade), "what the scores make of a logit of 1 at");
  const index_type parity = on_last() ? 1 : 0;
  const auto every_second = [parity](auto i, auto j) {
    return ((j & 1) == decltype(j)(static_cast<int>(parity))) | (j == i);
  };
  of_cells(fovea::mask(every_second), "whether the masks show");
  const std::string kinds = "the number that kinds of masks and scores are told by is ";
  const auto refused = [&](const auto&... rule) {
    expect_refused([&] { ring(x, x, x, rule...); }, {kinds.c_str(), ("on rank " + last()).c_str()});
  };
  on_last() ? refused(causal) : refused();
  const std::vector<float> alike{0.5f, 0.25f};
  EXPECT_EQ(ring(x, x, x, causal, fovea::alibi{alike}, fovea::softcap{2.f}).size(), x.size());
}

/// What is wrong on one rank alone, all are told.
TEST(errors, one_rank_is_wrong) {
  const auto q = random_tensor<float>(1, 1, 2, 12, 8),
             k = random_tensor<float>(1, 1, 2, on_last() ? 5 : 12, 8);
  const ring_of_floats ring(MPI_COMM_WORLD);
  expect_refused([&] { ring(q, k, q); }, "rank " + last() + ": k has 5 tokens but v has 12");
  const auto shifted = random_tensor<float>(1, 1, on_last() ? 3 : 2, 12, 8);
  expect_refused([&] { ring(shifted, q, q); }, "rank " + last() + ": q has 3 heads, not 2");
  fovea::tensor<float> o(1, 2, 12, 8);
  auto keys = q;
  expect_refused([&] { ring.into(on_last() ? keys : o, q, keys, q); },
                 {("rank " + last()).c_str(), "o and k share memory"});
}

TEST(errors, of_the_whole_sequence) {
  const int ranks = ranks_here();
  const index_type all = 12 * ranks, keys = 10 * ranks;
  const auto q = random_tensor<float>(1, 1, 2, 12, 8), k = random_tensor<float>(1, 1, 2, 10, 8);
  const ring_of_floats ring(MPI_COMM_WORLD);
  expect_refused([&] { ring(q, k, k, causal); },
                 {"rank 0: causal needs as many queries as keys",
                  (std::to_string(all) + " queries and " + std::to_string(keys) + " keys").c_str()});
  const std::vector<float> slopes{1.f};
  expect_refused([&] { ring(q, q, q, fovea::alibi{slopes}); }, "rank 0: alibi has 1 slopes for 2 heads");
  if (ranks > 1) {
    call{.tokens = rank_here() == 0 ? 13 : 11, .options = {.layout = token_layout::balanced}}.refused(
        {"q has 13 tokens on rank 0 but the balanced layout of " + std::to_string(11 * ranks + 2) +
         " tokens over " + std::to_string(ranks) + " ranks gives it " + std::to_string([&] {
           const auto both = fovea::tokens_of_rank(token_layout::balanced, 11 * ranks + 2, 0, ranks);
           return both[0].size() + both[1].size();
         }())});
    call{.options = {.reproducible_block = 8}}.refused(
        "reproducible_block is 8 but a slice of q on rank 1 begins at token 12, not at a multiple of it");
  }
  call{.options = {.reproducible_block = -1}}.refused("rank 0: the option reproducible_block is -1, below 0");
}

/// An executor that throws after some calls.
struct throwing {
  int calls_until_it_throws;
  index_type workers() const { return 2; }
  void for_each(index_type n, const auto& f) {
    if (calls_until_it_throws-- <= 0) throw std::runtime_error("a worker fell ill");
    for (index_type i = 0; i < n; ++i) f(i, index_type(0));
  }
};

/// A rank that fails before the call, and one whose executor throws in the middle of the exchange.
TEST(errors, a_rank_that_fails) {
  try {
    fovea::on_all_ranks(MPI_COMM_WORLD, [] {
      if (on_last()) throw std::runtime_error("no such file");
    });
    ADD_FAILURE() << "nothing thrown";
  } catch (const std::runtime_error& e) {
    EXPECT_EQ(std::string(e.what()), "fovea: rank " + last() + ": no such file");
  }

  throwing ill{on_last() ? 0 : 1 << 30};
  const auto x = random_tensor<float>(1, 1, 2, 300, 64);  // enough for two workers
  const ring_of_floats ring(MPI_COMM_WORLD, {.executor = ill});
  try {
    ring(x, x, x);
    ADD_FAILURE() << "nothing thrown";
  } catch (const std::runtime_error& e) {
    EXPECT_EQ(std::string(e.what()), "fovea: rank " + last() + ": a worker fell ill");
  }
  const ring_of_floats well(MPI_COMM_WORLD);
  EXPECT_EQ(well(x, x, x).size(), x.size());  // and the next call works
}

/// Each allocation of a tensor's size fails in turn, on one rank: all ranks throw, and none waits for it.
template <class Call>
void expect_failing_together(const char* what, const Call& call) {
  constexpr std::size_t of_a_tensor = 2000;  // what ranks agree by is smaller
  for (long calls = 0; calls < 200; ++calls) {
    int thrown = 0, all = 0;
    std::string text;
    if (on_last()) fail_allocation(calls, of_a_tensor);
    try {
      call();
    } catch (const std::exception& e) {
      thrown = 1, text = e.what();
    }
    fail_allocation(-1);
    MPI_Allreduce(&thrown, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (all == 0) return;
    ASSERT_EQ(all, ranks_here()) << what << ", allocation " << calls;
    EXPECT_NE(text.find("out of memory"), std::string::npos) << what << ": " << text;
  }
  ADD_FAILURE() << what << " fails always";
}
TEST(errors, a_rank_without_memory) {
  const auto q = random_tensor<float>(1, 1, 8, 80, 8), k = random_tensor<float>(2, 1, 8, 80, 8);
  fovea::tensor<float> d_q(1, 8, 80, 8), d_k(1, 8, 80, 8), d_v(1, 8, 80, 8);
  const fovea::ring_attention<float, 8> ring(MPI_COMM_WORLD);
  expect_failing_together("ring", [&] { ring.with_lse(q, k, k, causal); });
  const auto of_ring = ring.with_lse(q, k, k, causal);
  expect_failing_together("ring backward", [&] {
    ring.backward_into(d_q, d_k, d_v, q, k, k, of_ring.out, of_ring.lse, q, causal);
  });
  const fovea::spread_attention<float, 8> spread(MPI_COMM_WORLD,
                                                 {.head_ranks = ranks_here() % 2 == 0 ? 2 : 1});
  expect_failing_together("spread", [&] { spread.with_lse(q, k, k, causal); });
  expect_failing_together("spread backward", [&] {
    spread.backward_into(d_q, d_k, d_v, q, k, k, of_ring.out, of_ring.lse, q, causal);
  });
}

}  // namespace
}  // namespace fovea_test
