#include "run.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <map>
#include <sstream>

namespace fovea_test {

bool is_softmax(const subject& s) {
  return s.rules.of != relative::sigmoid && s.rules.of != relative::differential &&
         s.rules.of != relative::local_p && !mixes_heads(s);
}
bool scores_products(const subject& s) { return s.rules.of <= relative::talking_heads; }
bool mixes_heads(const subject& s) { return s.rules.of == relative::talking_heads; }

std::string words(const sizes& n) {
  std::ostringstream text;
  text << "B=" << n.batch << " Hq=" << n.heads << " Hkv=" << n.kv_heads << " Lq=" << n.queries
       << " Lk=" << n.keys << " d=" << n.dim << " dv=" << n.value_dim;
  return text.str();
}

laid_out::laid_out(const subject& s, layout l, const problem& p) : subject_(s), problem_(p) {
  const sizes& n = p.n;
  if (l == layout::packed_qkv) {
    for (const operand& part : operand::packed(s.q, n)) operands_.push_back(part);
  } else {
    operands_.emplace_back(role::q, l, s.q, p.queries, n.heads, n.queries, n.dim);
    operands_.emplace_back(role::k, l, s.k, p.keys, n.kv_heads, n.keys, n.dim);
    operands_.emplace_back(role::v, l, s.v, p.keys, n.kv_heads, n.keys, n.value_dim);
  }
  operands_.emplace_back(role::out, l, s.o, p.queries, n.heads, n.queries, n.value_dim);
  operands_.emplace_back(role::lse, l, s.compute(), p.queries, n.heads, n.queries, 1);
  operands_[0].write(p.q, p.queries), operands_[1].write(p.k, p.keys), operands_[2].write(p.v, p.keys);
  call = {view_of(l),
          operands_[0].view(),
          operands_[1].view(),
          operands_[2].view(),
          operands_[3].view(),
          operands_[4].view(),
          n.batch,
          n.heads,
          n.kv_heads,
          p.scale,
          &p.rules,
          {},
          {}};
}

outcome laid_out::run() {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  std::vector<std::vector<unsigned char>> before;
  for (int i = 0; i < 3; ++i) before.push_back(operands_[static_cast<std::size_t>(i)].bytes());
  outcome r;
  r.allocated = subject_.attend(call);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(operands_[i].bytes(), before[i]) << "operand " << i << " was written to";
  EXPECT_TRUE(operands_[3].canaries_stand(problem_.queries, 0)) << "written beside the result";
  EXPECT_TRUE(operands_[4].canaries_stand(problem_.queries, -infinity)) << "written beside the LSE";
  r.out = operands_[3].read(problem_.queries), r.lse = operands_[4].read(problem_.queries);
  return r;
}

bool laid_out::untouched() const {
  const std::vector<index_type> nothing(problem_.queries.size(), 0);
  return operands_[3].canaries_stand(nothing) && operands_[4].canaries_stand(nothing);
}

outcome run(const subject& s, layout l, const problem& p, const executor_choice& executor) {
  laid_out memory(s, l, p);
  memory.call.executor = executor;
  return memory.run();
}

const geometry& geometry_of(const subject& asked) {
  const subject& s = tables_of(asked);
  static std::map<const subject*, geometry> known;
  const auto found = known.find(&s);
  if (found != known.end()) return found->second;
  const auto plan_of = [&](index_type queries) {
    const problem p = random_problem(s, layout::bhsd, {1, 1, 1, queries, queries, 3, 3}, 1);
    const laid_out memory(s, layout::bhsd, p);
    return s.plan_for(memory.call);
  };
  const plan_facts many = plan_of(600), few = plan_of(1);
  return known[&s] = {many.lanes,     many.tile_rows, many.lanes * many.tile_vectors,
                      many.key_block, few.key_block,  many.rows_a_job};
}

std::vector<sizes> usual_shapes(const subject& s) {
  const geometry& g = geometry_of(s);
  return {{2, 4, 2, 2, g.few_key_block + 9, 7, 6},
          {3, 2, 1, g.lanes + 5, g.key_block + 5, 9, 5},
          {1, 1, 1, g.tile_queries + 3, 19, 3, 10}};
}

std::vector<sizes> busy_shapes(const subject& s, layout l) {
  const geometry& g = geometry_of(s);
  std::vector<sizes> all = {{2, 4, 2, 2, 600, 16, 16},
                            {2, 4, 2, g.lanes + 5, g.key_block + 5, 8, 8},
                            {1, 2, 1, g.job + 2, g.key_block + 3, 4, 4}};
  for (sizes& n : all) {
    n = fitted(s, l, n);
    const index_type cells = n.batch * n.heads * n.queries * n.keys;
    while (n.dim < 200 && 2 * cells * (n.dim + n.value_dim) < 2'000'000) n.dim += 8, n.value_dim += 8;
  }
  return all;
}

bool same_bits(double a, double b) noexcept {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

bool same_row(const outcome& a, const outcome& b, index_type batch, index_type h, index_type i) {
  bool same = same_bits(a.lse(batch, h, i, 0), b.lse(batch, h, i, 0));
  for (index_type c = 0; c < a.out.dim; ++c)
    same = same && same_bits(a.out(batch, h, i, c), b.out(batch, h, i, c));
  return same;
}

void expect_same_bits(const problem& p, const outcome& a, const outcome& b, const char* what) {
  for (index_type n = 0; n < p.n.batch; ++n)
    for (index_type h = 0; h < p.n.heads; ++h)
      for (index_type i = 0; i < p.queries[static_cast<std::size_t>(n)]; ++i)
        if (!same_row(a, b, n, h, i)) {
          ADD_FAILURE() << "other bits " << what << ": sequence " << n << ", head " << h << ", row " << i
                        << " of " << words(p.n) << ", first column " << (a.out.dim ? a.out(n, h, i, 0) : 0)
                        << " and " << (b.out.dim ? b.out(n, h, i, 0) : 0) << ", LSE " << a.lse(n, h, i, 0)
                        << " and " << b.lse(n, h, i, 0);
          return;
        }
}

}  // namespace fovea_test
