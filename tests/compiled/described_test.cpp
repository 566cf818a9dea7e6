// Masks and scores of every kind, described, against the formula in double.
#include "../support/worse.hpp"

#include <fovea/compiled.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace {

namespace compiled = fovea::compiled;
constexpr std::int64_t heads = 2, tokens = 96, dim = 8;
constexpr double none = -std::numeric_limits<double>::infinity();

std::vector<float> numbers(std::int64_t count, float seed) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < count; ++i) x.push_back(std::sin(seed * static_cast<float>(i)));
  return x;
}

using logit = std::function<double(double s, std::int64_t head, std::int64_t q, std::int64_t k)>;
using visible = std::function<bool(std::int64_t q, std::int64_t k)>;

/// What a call gives, and the largest difference from softmax(score(S)) V with exp(sink) in the denominator.
double error_of(compiled::call& call, const logit& score, double sink = none) {
  const auto q = numbers(heads * tokens * dim, 1.3f), k = numbers(heads * tokens * dim, 2.7f),
             v = numbers(heads * tokens * dim, 4.1f);
  std::vector<float> o(q.size(), 77);
  const auto view = [](const std::vector<float>& x) {
    return fovea_bhsd(x.data(), FOVEA_F32, 1, heads, tokens, dim);
  };
  call.q = view(q), call.k = view(k), call.v = view(v), call.o = view(o);
  call.attend();
  double worst = 0;
  for (std::int64_t h = 0; h < heads; ++h)
    for (std::int64_t i = 0; i < tokens; ++i) {
      std::vector<double> p(tokens);
      double sum = std::exp(sink);
      const auto at = [&](std::int64_t t) { return static_cast<std::size_t>((h * tokens + t) * dim); };
      for (std::int64_t j = 0; j < tokens; ++j) {
        double s = 0;
        for (std::size_t c = 0; c < dim; ++c) s += double(q[at(i) + c]) * double(k[at(j) + c]);
        sum += p[static_cast<std::size_t>(j)] = std::exp(score(s / std::sqrt(double(dim)), h, i, j));
      }
      for (std::size_t c = 0; c < dim; ++c) {
        double exact = 0;
        for (std::int64_t j = 0; j < tokens; ++j)
          exact += sum == 0 ? 0 : p[static_cast<std::size_t>(j)] / sum * double(v[at(j) + c]);
        worst = fovea_test::worse(worst, std::abs(exact - double(o[at(i) + c])));
      }
    }
  return worst;
}

void expect_mask(const fovea_mask& mask, const visible& shows) {
  compiled::call call;
  call.add(mask);
  const auto hide = [&](double s, std::int64_t, std::int64_t q, std::int64_t k) {
    return shows(q, k) ? s : none;
  };
  EXPECT_LT(error_of(call, hide), 1e-6) << "kind " << mask.kind;
}

fovea_mask mask_of(fovea_mask_kind kind, std::int64_t size = 0) {
  fovea_mask mask = fovea_mask_of(kind);
  mask.size = size;
  return mask;
}
fovea_mask with_list(fovea_mask_kind kind, const std::vector<std::int64_t>& list) {
  fovea_mask mask = fovea_mask_of(kind);
  mask.list = fovea_list_of(list.data(), FOVEA_I64, static_cast<std::int64_t>(list.size()));
  return mask;
}

TEST(Described, Bands) {
  for (const auto kind : {FOVEA_CAUSAL, FOVEA_CAUSAL_TOP_LEFT, FOVEA_CAUSAL_BOTTOM_RIGHT})
    expect_mask(mask_of(kind), [](auto q, auto k) { return k <= q; });
  fovea_mask mask = mask_of(FOVEA_CAUSAL_OFFSET);
  mask.offset = -40;
  expect_mask(mask, [](auto q, auto k) { return k <= q - 40; });
  mask = mask_of(FOVEA_SLIDING_WINDOW);
  mask.left = 3, mask.right = 5, mask.has_offset = 1, mask.offset = 2;
  expect_mask(mask, [](auto q, auto k) { return q + 2 - 3 <= k && k <= q + 2 + 5; });
}

TEST(Described, Lists) {
  const std::vector<std::int64_t> length{41};
  expect_mask(with_list(FOVEA_KEY_LENGTHS, length), [](auto, auto k) { return k < 41; });
  expect_mask(with_list(FOVEA_LEFT_PADDING, length), [](auto, auto k) { return k >= 41; });
  expect_mask(with_list(FOVEA_PREFIX, length), [](auto q, auto k) { return k < 41 || k <= q; });
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < tokens; ++i) ids.push_back(i / 20 % 3);
  const auto id = [&](std::int64_t t) { return ids[static_cast<std::size_t>(t)]; };
  expect_mask(with_list(FOVEA_DOCUMENTS, ids), [&](auto q, auto k) { return id(q) == id(k); });
  const std::vector<std::int64_t> positions{2, 50};
  const auto global = [](auto t) { return t == 2 || t == 50; };
  expect_mask(with_list(FOVEA_GLOBAL_TOKENS, positions),
              [&](auto q, auto k) { return global(q) || global(k); });
  const std::vector<std::uint64_t> words{1, 3, 5};  // of the last three tokens: 0; 0, 1; 0, 2
  fovea_mask tree = fovea_mask_of(FOVEA_DRAFT_TREE);
  tree.list = fovea_list_of(words.data(), FOVEA_U64, 3);
  expect_mask(tree, [&](auto q, auto k) {
    const auto first = tokens - 3;
    if (k < first || q < first) return k <= q;
    return k == q || (words[static_cast<std::size_t>(q - first)] >> (k - first) & 1) != 0;
  });
}

TEST(Described, Blocks) {
  expect_mask(mask_of(FOVEA_BLOCK_DIFFUSION, 20), [](auto q, auto k) { return q / 20 >= k / 20; });
  expect_mask(mask_of(FOVEA_CHUNKED, 20), [](auto q, auto k) { return q / 20 == k / 20; });
  expect_mask(mask_of(FOVEA_DILATED, 5), [](auto q, auto k) { return (k - q) % 5 == 0; });
  const std::vector<std::uint8_t> map{1, 0, 0, 1, 1, 0, 0, 1, 1};  // of 3 x 3 blocks of 32 x 32
  fovea_mask blocks = mask_of(FOVEA_BLOCK_MAP, 32);
  blocks.size2 = 32, blocks.matrix = fovea_bhsd(map.data(), FOVEA_U8, 1, 1, 3, 3);
  expect_mask(blocks,
              [&](auto q, auto k) { return map[static_cast<std::size_t>(q / 32 * 3 + k / 32)] != 0; });
  fovea_mask near = mask_of(FOVEA_NEIGHBOURHOOD);
  near.axes = 1, near.sizes[0] = tokens, near.kernel[0] = 7;
  expect_mask(near, [](auto q, auto k) {
    const auto first = std::min(std::max<std::int64_t>(q - 3, 0), tokens - 7);
    return first <= k && k < first + 7;
  });
  fovea_mask bird = mask_of(FOVEA_BIG_BIRD, 16);
  bird.window = 3, bird.global = 1;
  expect_mask(bird, [](auto q, auto k) { return q < 16 || k < 16 || std::abs(q / 16 - k / 16) <= 1; });
}

TEST(Described, MatricesAndParts) {
  std::vector<std::uint8_t> keep(static_cast<std::size_t>(heads * tokens * tokens));
  for (std::size_t i = 0; i < keep.size(); ++i) keep[i] = i % 5 != 1;
  fovea_mask matrix = fovea_mask_of(FOVEA_BOOLEAN);
  matrix.matrix = fovea_bhsd(keep.data(), FOVEA_U8, 1, heads, tokens, tokens);
  const auto shown = [&](auto h, auto q, auto k) {
    return keep[static_cast<std::size_t>((h * tokens + q) * tokens + k)] != 0;
  };
  fovea_mask window = mask_of(FOVEA_SLIDING_WINDOW);
  window.left = window.right = 4;
  const fovea_mask both[] = {matrix, window};
  fovea_mask any = fovea_mask_of(FOVEA_ANY_OF);
  any.parts = both, any.part_count = 2;
  const fovea_mask negated[] = {any};
  fovea_mask no = fovea_mask_of(FOVEA_NOT);
  no.parts = negated, no.part_count = 1;
  for (const bool inverse : {false, true}) {
    compiled::call call;
    call.add(inverse ? no : any), call.add(mask_of(FOVEA_CAUSAL));
    EXPECT_LT(error_of(call,
                       [&](double s, auto h, auto q, auto k) {
                         return (shown(h, q, k) || std::abs(q - k) <= 4) != inverse && k <= q ? s : none;
                       }),
              1e-6);
  }
  compiled::call call;
  for (int i = 0; i < 3; ++i) call.add(matrix);  // more than are copied
  EXPECT_LT(error_of(call, [&](double s, auto h, auto q, auto k) { return shown(h, q, k) ? s : none; }),
            1e-6);
}

TEST(Described, Scores) {
  const std::vector<double> slopes{0.25, 0.5}, logits{1, 1};
  std::vector<float> bias = numbers(tokens * tokens, 0.9f), table = numbers(32 * heads, 0.3f);
  fovea_score alibi = fovea_score_of(FOVEA_ALIBI), matrix = fovea_score_of(FOVEA_BIAS),
              t5 = fovea_score_of(FOVEA_T5_BIAS);
  alibi.list = fovea_list_of(slopes.data(), FOVEA_F64, heads);
  matrix.matrix = fovea_bhsd(bias.data(), FOVEA_F32, 1, 1, tokens, tokens);
  t5.matrix = fovea_bhsd(table.data(), FOVEA_F32, 1, 1, 32, heads);
  const auto near = [&](std::int64_t h, std::int64_t q, std::int64_t k) {  // exact buckets: distances below 8
    return double(table[static_cast<std::size_t>((k > q ? 16 + k - q : q - k) * heads + h)]);
  };
  compiled::call call;
  fovea_mask window = mask_of(FOVEA_SLIDING_WINDOW);
  window.left = window.right = 7;
  call.add(alibi), call.add(matrix), call.add(t5), call.softcap(2), call.add(window);
  call.sink = fovea_list_of(logits.data(), FOVEA_F64, heads);
  EXPECT_LT(error_of(
                call,
                [&](double s, auto h, auto q, auto k) {
                  if (std::abs(q - k) > 7) return none;
                  return 2 * std::tanh(s / 2) -
                         slopes[static_cast<std::size_t>(h)] * std::abs(double(q - k)) +
                         double(bias[static_cast<std::size_t>(q * tokens + k)]) + near(h, q, k);
                },
                1.0),
            2e-6);
}

TEST(Described, PackedSequences) {
  const auto x = numbers(heads * tokens * dim, 1.1f);
  std::vector<float> o(x.size()), part(x.size());
  const auto view = [](const std::vector<float>& of, std::int64_t first, std::int64_t count) {
    fovea_tensor all = fovea_bshd(of.data() + first * heads * dim, FOVEA_F32, 1, count, heads, dim);
    return all;
  };
  const std::vector<std::int64_t> offsets{0, 30, 30, tokens};
  const auto attend = [&](std::int64_t first, std::int64_t count, std::vector<float>& to, bool packs) {
    compiled::call call;
    call.q = call.k = call.v = view(x, first, count), call.o = view(to, first, count);
    if (packs) call.query_offsets = call.key_offsets = fovea_list_of(offsets.data(), FOVEA_I64, 4);
    call.add(mask_of(FOVEA_CAUSAL));
    call.attend();
  };
  attend(0, tokens, o, true), attend(0, 30, part, false), attend(30, tokens - 30, part, false);
  EXPECT_EQ(o, part);
}

TEST(Described, Errors) {
  const auto x = numbers(heads * tokens * dim, 1.1f);
  std::vector<float> o(x.size(), 5);
  compiled::call call;
  call.q = call.k = call.v = fovea_bhsd(x.data(), FOVEA_F32, 1, heads, tokens, dim);
  call.o = fovea_bhsd(o.data(), FOVEA_F32, 1, heads, tokens, dim);
  const auto refused_with = [&](const char* a, const char* b) {
    try {
      call.attend();
      return false;
    } catch (const std::invalid_argument& e) {
      const std::string text = e.what();
      return text.find(a) != std::string::npos && text.find(b) != std::string::npos && o[0] == 5;
    }
  };
  call.q.batch = 3;
  EXPECT_TRUE(refused_with("3", "1"));
  call.q.batch = 1, call.o = call.k;
  call.o.data = const_cast<float*>(x.data()) + 1;
  EXPECT_TRUE(refused_with("o and q", "share"));
  call.o = fovea_bhsd(o.data(), FOVEA_F32, 1, heads, tokens, dim);
  const std::vector<std::int64_t> lengths{1, 2};
  call.add(with_list(FOVEA_KEY_LENGTHS, lengths));
  EXPECT_TRUE(refused_with("2 entries", "1 sequences"));
}

}  // namespace
