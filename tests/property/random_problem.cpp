// Problems made at random: sizes, numbers, and the parameters of every mask and score.
#include "run.hpp"

#include <algorithm>

namespace fovea_test {
namespace {

void fill(array& a, random_source& random, double spread) {
  for (double& x : a.x) x = random.uniform(-spread, spread);
}

/// Documents one after another, with rising ids or any, or mixed; each query's has a key. (From a copy of the
/// source: other rules stay what they were for a seed.)
void make_documents(rules& r, const problem& p, random_source random) {
  for (std::size_t b = 0; b < p.keys.size(); ++b) {
    const index_type queries = p.queries[b], keys = p.keys[b];
    const bool rising = random.chance(0.5), mixed = !rising && random.chance(0.3);
    std::vector<index_type> of_keys, of_queries;
    index_type id = random.integer(-9, 9);
    for (index_type j = 0; j < keys; ++j) {
      if (mixed || random.chance(0.05)) id = rising ? id + random.integer(1, 3) : random.integer(-2, 2);
      of_keys.push_back(id);
    }
    for (index_type i = 0; i < queries; ++i)
      of_queries.push_back(
          keys == 0 ? 0 : of_keys[static_cast<std::size_t>(std::max<index_type>(0, keys - 1 - i % keys))]);
    std::sort(of_queries.begin(), of_queries.begin() + (rising ? queries : 0));
    r.key_ids.push_back(of_keys), r.query_ids.push_back(of_queries);
  }
}

/// Blocks of any sides, a map for all or for each sequence and head, from all hidden to all visible; chunks.
/// (From a copy of the source, as documents.)
void make_map(rules& r, const sizes& n, random_source random) {
  r.block_queries = random.integer(16, 70), r.block_keys = random.integer(16, 70);
  const auto one_or = [&](index_type full) { return random.chance(0.5) ? index_type(1) : full; };
  const auto blocks = [](index_type tokens, index_type side) { return tokens / side + 1; };
  r.map = table(one_or(n.batch), one_or(n.heads), blocks(n.queries, r.block_queries),
                blocks(n.keys, r.block_keys));
  const double share = random.uniform(0, 1);
  for (double& x : r.map.x) x = random.chance(share);
  r.chunk = random.integer(1, 80);
}

/// A tree of drafts, tokens that all see, a picture: what every sequence has room for. (From a copy, too.)
void make_patterns(rules& r, const problem& p, random_source random) {
  const index_type shortest = p.keys.empty() ? 0 : *std::min_element(p.keys.begin(), p.keys.end());
  for (index_type i = 0, n = std::min(random.integer(0, 90), shortest); i < n; ++i)
    r.parents.push_back(random.integer(-1, i - 1));
  r.reach = random.integer(0, 20), r.nth = random.integer(1, random.chance(0.5) ? 8 : 90);
  for (index_type t = random.integer(0, 9); t < shortest && random.chance(0.8); t += random.integer(1, 9))
    r.global.push_back(t);
  for (const index_type rows : {2, 3, 6})
    if (p.n.keys % rows == 0 && random.chance(0.7)) r.rows = rows;
  r.columns = std::max<index_type>(p.n.keys / r.rows, 1);
  r.kernel = random.integer(1, std::min<index_type>({r.rows, r.columns, 5}));
  r.dilation = random.integer(1, r.rows / r.kernel);
}

/// What differs for each head and sequence. (From a copy, too.)
void make_of_heads(rules& r, const problem& p, random_source random) {
  for (index_type h = 0; h < p.n.heads; ++h) r.head_steps.push_back(random.integer(0, 5));
  for (index_type b = 0; b < p.n.batch; ++b) r.sequence_steps.push_back(random.integer(0, 5));
  r.beside = random.integer(0, 2), r.first_blocks = random.integer(0, 2), r.drawn = random.integer(0, 4);
  r.seed = random.bits();
}

void make_masks(rules& r, const problem& p, random_source& random) {
  const index_type queries = p.n.queries, keys = p.n.keys;
  r.offset = keys - queries + random.integer(-3, 3);
  const std::vector<index_type> reaches = {-1, 0, 1, 5, keys / 2};
  r.left = random.pick(reaches), r.right = random.pick(reaches);
  r.diagonal = random.chance(0.5) ? keys - queries : random.integer(-2, 2);
  for (const index_type n : p.keys) {
    r.lengths.push_back(n - random.integer(0, random.chance(0.5) ? n : n / 4));
    r.starts.push_back(random.integer(0, random.chance(0.2) ? n : n / 4));
  }
  make_documents(r, p, random), make_map(r, p.n, random), make_patterns(r, p, random);
  make_of_heads(r, p, random);
  r.period = index_type(1) << random.integer(0, 3);
  r.prefix_keys = random.integer(0, keys);
}

void make_scores(rules& r, const problem& p, random_source& random) {
  // Multiples of small powers of two: what is added to a logit is exact in every format.
  r.cap = random.chance(0.1) ? 0 : static_cast<double>(random.integer(4, 60)) / 2;
  for (index_type h = 0; h < p.n.heads; ++h) {
    r.slopes.push_back(static_cast<double>(random.integer(0, 16)) / 16);
    r.sinks.push_back(static_cast<double>(random.integer(-24, 24)) / 8);
  }
  r.alibi_offset = random.integer(-3, p.n.keys);
  r.tilt = static_cast<double>(random.integer(-4, 4)) / 64;
}

/// A number a slot, for all heads or each. (From a copy, too.)
void make_numbers(rules& r, const sizes& n, random_source random) {
  const index_type slots = r.features & distances ? 8
                           : r.features & offsets ? (2 * r.rows - 1) * (2 * r.columns - 1)
                                                  : 19;
  r.numbers = table(1, random.chance(0.3) ? 1 : n.heads, 1, slots);
  for (double& x : r.numbers.x) x = static_cast<double>(random.integer(-24, 24)) / 8;
}

/// Each size 1 or full. Sequences of different length can share a table that has one row and one column only.
table make_table(const problem& p, bool cells, random_source& random) {
  const auto size = [&](index_type full) { return random.chance(0.3) ? index_type(1) : full; };
  return table(size(p.n.batch), size(p.n.heads), cells ? size(p.n.queries) : 1, cells ? size(p.n.keys) : 1);
}

}  // namespace

bool possible(const subject& s, layout l) { return l != layout::packed_qkv || (s.q == s.k && s.k == s.v); }

namespace {

/// Whether tokens are those of a picture of rows x columns.
bool has_picture(const subject& s) {
  return (s.rules.features & (picture | offsets)) != 0 || s.rules.of == relative::decomposed;
}
bool needs_as_many_keys(const subject& s) { return (s.rules.features & as_many_keys) != 0 || has_picture(s); }

}  // namespace

sizes fitted(const subject& s, layout l, sizes n) {
  const view_kind views = view_of(l);
  if (views == view_kind::rows || views == view_kind::columns) n.batch = 1;
  if (s.rules.of > relative::talking_heads)
    n.dim = std::max<index_type>(n.dim, 1);  // their parameters have it
  if (l == layout::packed_qkv) n.keys = n.queries, n.value_dim = n.dim;
  if (has_picture(s)) n.queries = std::max<index_type>(n.queries, 1);
  if (s.rules.features & drafts) n.keys = std::max(n.keys, n.queries);
  if (needs_as_many_keys(s)) n.keys = n.queries;
  return n;
}

void round_to_formats(problem& p, const subject& s) {
  for (double& x : p.q.x) x = rounded(s.q, x);
  for (double& x : p.k.x) x = rounded(s.k, x);
  for (double& x : p.v.x) x = rounded(s.v, x);
}

problem random_problem(const subject& s, layout l, sizes wanted, std::uint64_t seed, double spread) {
  random_source random(seed);
  problem p;
  const sizes n = p.n = fitted(s, l, wanted);
  p.queries.assign(static_cast<std::size_t>(n.batch), n.queries);
  p.keys.assign(static_cast<std::size_t>(n.batch), n.keys);
  const bool ragged = l == layout::ragged;
  for (std::size_t b = 1; ragged && b < p.queries.size(); ++b) {  // the first is the longest
    p.queries[b] = random.integer(0, n.queries);
    if (has_picture(s)) p.queries[b] = n.queries;
    p.keys[b] = needs_as_many_keys(s) ? p.queries[b] : random.integer(0, n.keys);
    if (s.rules.features & drafts) p.keys[b] = std::max(p.keys[b], p.queries[b]);
  }
  p.q = array(n.batch, n.heads, n.queries, n.dim), fill(p.q, random, spread);
  p.k = array(n.batch, n.kv_heads, n.keys, n.dim), fill(p.k, random, spread);
  p.v = array(n.batch, n.kv_heads, n.keys, n.value_dim), fill(p.v, random, 1);
  round_to_formats(p, s);
  p.rules.features = s.rules.features & ~beside_rules;
  make_masks(p.rules, p, random);
  make_scores(p.rules, p, random), make_numbers(p.rules, n, random);
  p.rules.keep = make_table(p, !ragged, random);
  const double kept = random.uniform(0.2, 0.95);
  for (double& x : p.rules.keep.x) x = random.chance(kept);
  p.rules.addend = make_table(p, !ragged, random);
  const double hidden = random.chance(0.5) ? 0.2 : 0.0;
  for (double& x : p.rules.addend.x)
    x = random.chance(hidden) ? -std::numeric_limits<double>::infinity()
                              : static_cast<double>(random.integer(-32, 32)) / 8;
  p.rules.hole = random.integer(-n.queries, n.keys);
  p.rules.of = s.rules.of;
  make_own(p.rules, p, seed);
  return p;
}

}  // namespace fovea_test
