// tests/property/problem.hpp - an attention call as plain numbers: what every subject is given, whatever it
// stores.
#pragma once

#include "../support/element.hpp"
#include "../support/random.hpp"

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace fovea_test {

/// What a call's rules are made of; a set of them is a kind of rules.
enum feature : std::uint64_t {
  causal = 1u << 0,
  causal_top_left = 1u << 1,
  causal_bottom_right = 1u << 2,
  causal_offset = 1u << 3,
  window = 1u << 4,
  right_padding = 1u << 5,
  left_padding = 1u << 6,
  boolean = 1u << 7,
  predicate = 1u << 8,
  prefix = 1u << 9,
  softcap = 1u << 10,
  alibi = 1u << 11,
  bias = 1u << 12,
  function = 1u << 13,
  sink = 1u << 14,
  complement = 1u << 16,
  documents = 1u << 17,
  blocks = 1u << 18,
  diffusion = 1u << 19,
  chunks = 1u << 20,
  drafts = 1u << 21,
  pattern = 1u << 22,  // a window, every n-th key and global tokens, joined
  picture = 1u << 23,
  language_prefix = 1u << 24,          // the library's prefix, a length a sequence
  birds = 1u << 25,                    // big_bird
  of_heads = 1u << 26,                 // functions of (b, h, q, k): a mask and a score
  distances = 1u << 27,                // a number for each bucket of k - q
  offsets = 1u << 28,                  // and for each offset of two tokens in a picture
  slots = 1u << 29,                    // and for each slot of an index
  exact_tables = 1u << 15,             // bias in float even where q has 16 bits, booleans as bytes
  rounds = 1u << 30,                   // weights may be rounded to what v is stored as
  gates = 1u << 31,                    // results are gated, and the gates' factors taken off again
  every_nth = std::uint64_t(1) << 32,  // keys at a multiple of nth from offset + q
};

inline constexpr std::uint64_t any_mask = ((1u << 10) - 1) | complement | documents | blocks | diffusion |
                                          chunks | drafts | pattern | picture | language_prefix | birds |
                                          of_heads | every_nth;
inline constexpr std::uint64_t as_many_keys =
    causal | diffusion | chunks | pattern | picture | birds | offsets;  // as queries
inline constexpr std::uint64_t any_slot = distances | offsets | slots;
/// Other elements are the same functions.
inline constexpr std::uint64_t in_float_alone =
    drafts | pattern | picture | language_prefix | birds | of_heads | any_slot | gates;
/// What a call has beside masks and scores.
inline constexpr std::uint64_t beside_rules = rounds | gates;
inline constexpr std::uint64_t any_addend = alibi | bias | function | of_heads | any_slot;

/// Which attention a call is: the softmax of scaled products, or one with another logit or weight (relatives.cpp).
enum class relative {
  none,
  kept_weights,  // one head's result is made of the weights that weights_into wrote
  sigmoid,
  differential,  // the second softmax's queries are the first's with the other sign
  talking_heads,
  transformer_xl,
  cosine,
  decomposed,
  general,  // luong's
  additive,
  dot,  // luong's, with no scale
  concat,
  location,  // logits of a query and a position
  local_m,   // dot in a window
  local_p,   // and around a place, with a Gaussian
};

struct rules_kind {
  std::uint64_t features;
  const char* name;
  relative of = relative::none;
};

inline constexpr std::uint64_t joined_masks =
    causal_top_left | window | right_padding | left_padding | complement;
inline constexpr std::uint64_t everything = causal_offset | window | right_padding | left_padding | boolean |
                                            predicate | complement | softcap | alibi | bias | function | sink;
inline constexpr std::uint64_t of_relatives = causal_offset | right_padding | boolean | alibi;
inline constexpr std::uint64_t dilated_window =
    every_nth | causal_offset | window | function | softcap | sink;
inline constexpr std::uint64_t dilated_cells = every_nth | documents | boolean | predicate | alibi;
inline constexpr std::uint64_t tables = boolean | softcap | bias | sink | exact_tables;

/// The tests' list of masks and scores, each alone and all together: a new one is an entry here, a bit above,
/// a line in rules.hpp (what the library calls it) and one in oracle.cpp (what it means).
inline constexpr std::array all_rules = {
    rules_kind{0, "none"},
    rules_kind{causal, "causal"},
    rules_kind{causal_top_left, "causal_top_left"},
    rules_kind{causal_bottom_right, "causal_bottom_right"},
    rules_kind{causal_offset, "causal_offset"},
    rules_kind{window, "sliding_window"},
    rules_kind{right_padding, "key_lengths"},
    rules_kind{left_padding, "left_padding"},
    rules_kind{boolean, "boolean_mask"},
    rules_kind{predicate, "predicate"},
    rules_kind{prefix, "user_struct"},
    rules_kind{documents, "documents"},
    rules_kind{blocks, "block_map"},
    rules_kind{diffusion, "block_diffusion"},
    rules_kind{chunks, "chunked"},
    rules_kind{drafts, "draft_tree"},
    rules_kind{pattern, "union"},
    rules_kind{picture, "neighbourhood"},
    rules_kind{language_prefix, "prefix"},
    rules_kind{birds, "big_bird"},
    rules_kind{of_heads, "functions_of_heads"},
    rules_kind{joined_masks, "joined_masks"},
    rules_kind{softcap, "softcap"},
    rules_kind{alibi, "alibi"},
    rules_kind{bias, "bias"},
    rules_kind{function, "score_function"},
    rules_kind{distances, "t5_bias"},
    rules_kind{offsets, "swin_bias"},
    rules_kind{slots | causal_offset, "bias_table"},
    rules_kind{sink, "sink"},
    rules_kind{gates, "gate"},
    rules_kind{everything, "everything"},
    rules_kind{tables, "tables"},
};

/// Those of the relatives' program alone.
inline constexpr std::array more_rules = {
    rules_kind{dilated_window, "dilated"},
    rules_kind{dilated_cells, "dilated_cells"},
};

/// A matrix a head that repeats along the sizes it does not have.
struct table {
  index_type batch = 1, heads = 1, queries = 1, keys = 1;
  std::vector<double> x = std::vector<double>(1);

  table() = default;
  table(index_type b, index_type h, index_type q, index_type k, double value = 0)
      : batch(b), heads(h), queries(q), keys(k), x(static_cast<std::size_t>(b * h * q * k), value) {}
  double& at(index_type b, index_type h, index_type q, index_type k) { return x[place(b, h, q, k)]; }
  double at(index_type b, index_type h, index_type q, index_type k) const { return x[place(b, h, q, k)]; }

 private:
  std::size_t place(index_type b, index_type h, index_type q, index_type k) const {
    b = batch == 1 ? 0 : b, h = heads == 1 ? 0 : h, q = queries == 1 ? 0 : q, k = keys == 1 ? 0 : k;
    return static_cast<std::size_t>(((b * heads + h) * queries + q) * keys + k);
  }
};

/// The parameters of masks and scores; a kind uses those of its features.
struct rules {
  std::uint64_t features = 0;
  index_type offset = 0;                           // causal_offset, language_prefix
  index_type left = -1, right = -1, diagonal = 0;  // window
  std::vector<index_type> lengths,
      starts;  // right_padding (and language_prefix), left_padding: one a sequence
  std::vector<std::vector<index_type>> query_ids, key_ids;  // documents: of each token, a list a sequence
  index_type period = 2;                                    // predicate: (k & period) == 0, or k == q
  index_type prefix_keys = 0;                               // prefix: k < prefix_keys, or k <= q
  index_type hole = 0;          // complement: k != q + hole, a window's complement
  table keep{1, 1, 1, 1, 1.0};  // boolean
  table map{1, 1, 1, 1, 1.0};   // blocks: batch x heads x blocks of queries x blocks of keys
  index_type block_queries = 16, block_keys = 16;
  index_type chunk = 1;              // diffusion, chunks: tokens of one
  std::vector<index_type> parents;   // drafts: of each, -1 for none
  index_type reach = 0, nth = 1;     // pattern: |q - k| <= reach, (q - k) % nth == 0, or one of
  std::vector<index_type> global;    //   these tokens
  index_type rows = 1, columns = 1;  // picture: of tokens; a square of kernel x kernel, dilated down
  index_type kernel = 1, dilation = 1;
  index_type beside = 0, first_blocks = 0, drawn = 0;  // birds: blocks of 16 on each side, at the beginning,
  std::uint64_t seed = 0;                              //   and at random
  std::vector<index_type> head_steps, sequence_steps;  // of_heads: with t the sum of a head's and a
                                                       //   sequence's, ((k + t) & period) == 0, or k == q;
                                                       //   s + (head's - sequence's) / 64 * (q - 2 k)
  double cap = 0;                                      // softcap
  std::vector<double> slopes, sinks;                   // alibi, sink: one a query head
  index_type alibi_offset = 0;
  table addend;   // bias
  table numbers;  // distances, offsets, slots: 1 x heads x 1 x slots
  relative of = relative::none;
  table own[3];     // a relative's parameters, 1 x heads (or 1) x rows x columns: see relatives.cpp
  double tilt = 0;  // function: s + tilt * (q - 2 k)
};

/// batch x heads x tokens x dim numbers.
struct array {
  index_type batch = 0, heads = 0, tokens = 0, dim = 0;
  std::vector<double> x;

  array() = default;
  array(index_type b, index_type h, index_type t, index_type c, double value = 0)
      : batch(b), heads(h), tokens(t), dim(c), x(static_cast<std::size_t>(b * h * t * c), value) {}
  double& operator()(index_type b, index_type h, index_type t, index_type c) { return x[place(b, h, t, c)]; }
  double operator()(index_type b, index_type h, index_type t, index_type c) const {
    return x[place(b, h, t, c)];
  }

 private:
  std::size_t place(index_type b, index_type h, index_type t, index_type c) const {
    return static_cast<std::size_t>(((b * heads + h) * tokens + t) * dim + c);
  }
};

struct sizes {
  index_type batch = 1, heads = 1, kv_heads = 1, queries = 1, keys = 1, dim = 1, value_dim = 1;
};

/// One call. Sequences may be shorter than the arrays, which are as long as the longest.
struct problem {
  sizes n;
  std::vector<index_type> queries, keys;  // tokens of each sequence
  array q, k, v;
  std::optional<double> scale;
  fovea_test::rules rules;

  index_type kv_head(index_type h) const { return h / (n.heads / n.kv_heads); }
  double scale_value() const;
};

/// What is expected: as fovea::reference gives it.
struct expectation {
  array out, lse, magnitude, logits;
};

// oracle.cpp: what masks and scores mean, said once more in plain words.
bool visible(const problem& p, index_type b, index_type h, index_type i, index_type j);
double addend(const problem& p, index_type b, index_type h, index_type i, index_type j);
double logit(const problem& p, index_type b, index_type h, index_type i, index_type j);
index_type slot_of(const rules& r, index_type i, index_type j);
index_type visible_keys(const problem& p, index_type b, index_type h, index_type i);
expectation textbook(const problem& p);

// relatives.cpp: the same of attention's relatives.
void make_own(rules& r, const problem& p, std::uint64_t seed);
rules with_head_pairs(const rules& r);  // each query head's twice
bool in_local_window(const problem& p, index_type b, index_type i, index_type j);
double own_logit(const problem& p, index_type b, index_type h, index_type i, index_type j);
expectation textbook_of_relative(const problem& p);

// reference.cpp: fovea::reference.
expectation reference_of(const problem& p);

// rewrite.cpp: the same mathematics, asked differently.
problem one_sequence(const problem& p, index_type b);
problem as_tables(const problem& p, index_type b);
problem with_keys(const problem& p,
                  const std::vector<index_type>& keys);  // of one sequence with exact tables
problem with_queries(const problem& p, index_type first, index_type last);  // likewise
problem permuted(const problem& p, const std::vector<index_type>& batches,
                 const std::vector<index_type>& heads, const std::vector<index_type>& kv_heads);

}  // namespace fovea_test
