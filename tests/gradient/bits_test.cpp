// The same bits, whoever runs the jobs, wherever the numbers lie, alone or in a batch; and nothing else
// written.
#include "../support/allocations.hpp"
#include "support.hpp"

namespace fovea_test {

template results<float> differentiated(const sizes&, const operands<float>&, const no_rules&,
                                       attention_options);
template results<float> differentiated(const sizes&, const operands<float>&, const masks&, attention_options);
template results<float> differentiated(const sizes&, const operands<float>&, const everything&,
                                       attention_options);

namespace {

/// Shapes of one and of several parts of heads and spans of keys, with dQ summed in place and not.
const std::vector<sizes> shapes = {{2, 2, 2, 70, 900, 16, 16},
                                   {1, 20, 2, 40, 50, 16, 24},
                                   {3, 1, 1, 33, 400, 20, 8},
                                   {1, 16, 16, 20, 30, 32, 32}};

everything busy(const sizes& n) {
  everything e(n);
  e.cap = 5, e.rate = 0.125, e.set_addend(1, 1, n.queries, 1), e.left = 500;
  for (float& s : e.slopes) s = 0.01f;
  for (float& s : e.sinks) s = 0.5f;
  return e;
}

void expect_same(const results<float>& a, const results<float>& b) {
  EXPECT_TRUE(same(a.d_q, b.d_q));
  EXPECT_TRUE(same(a.d_k, b.d_k));
  EXPECT_TRUE(same(a.d_v, b.d_v));
}

TEST(gradient_bits, are_the_same_for_any_number_of_workers) {
  for (const sizes& n : shapes) {
    const operands<float> x(n);
    const everything one = busy(n), many = busy(n);
    const auto alone = differentiated(n, x, one, {});
    for (const index_type workers : {2, 3, 5}) {
      fovea::threads pool(workers);
      expect_same(differentiated(n, x, many, {.executor = pool}), alone);
      EXPECT_TRUE(same(many.d_addend, one.d_addend));
      EXPECT_EQ(many.d_slopes, one.d_slopes);
      EXPECT_EQ(many.d_sinks, one.d_sinks);
    }
  }
}

TEST(gradient_bits, are_the_same_alone_and_in_a_batch) {
  const sizes n{3, 4, 2, 70, 900, 16, 24}, single{1, 4, 2, 70, 900, 16, 24};
  const operands<float> x(n);
  const auto all = differentiated(n, x, masks(n), {});
  for (index_type b = 0; b < n.batch; ++b) {
    operands<float> one(single);
    const auto pick = [&](const tensor<float>& from, tensor<float>& to) {
      std::copy_n(from.data() + b * to.size(), to.size(), to.data());
    };
    pick(x.q, one.q), pick(x.k, one.k), pick(x.v, one.v), pick(x.d_out, one.d_out), pick(x.d_lse, one.d_lse);
    const auto got = differentiated(single, one, masks(single), {});
    results<float> want = got;
    pick(all.d_q, want.d_q), pick(all.d_k, want.d_k), pick(all.d_v, want.d_v);
    expect_same(got, want);
  }
}

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// tokens x (heads * dim), as Eigen has it.
template <class M = Matrix>
M matrix(const tensor<float>& x) {
  M m(x.tokens(), x.heads() * x.dim());
  for (index_type h = 0; h < x.heads(); ++h)
    for (index_type t = 0; t < x.tokens(); ++t)
      for (index_type c = 0; c < x.dim(); ++c) m(t, h * x.dim() + c) = x(0, h, t, c);
  return m;
}

TEST(gradient_bits, do_not_depend_on_where_numbers_lie) {
  const sizes n{1, 4, 2, 45, 130, 16, 24};
  const operands<float> x(n);
  const fovea::attention<float, 4, 2> attend;
  const auto want = differentiated(n, x, no_rules{}, {});
  const auto check = [&](auto example) {
    using M = decltype(example);
    const M q = matrix<M>(x.q), k = matrix<M>(x.k), v = matrix<M>(x.v), d_out = matrix<M>(x.d_out),
            d_lse = matrix<M>(x.d_lse);
    const M out = matrix<M>(want.out), lse = matrix<M>(want.lse);
    const auto got = attend.backward(q, k, v, out, lse, d_out, fovea::lse_gradient(d_lse));
    EXPECT_EQ(Matrix(got.d_q), matrix(want.d_q));
    EXPECT_EQ(Matrix(got.d_k), matrix(want.d_k));
    EXPECT_EQ(Matrix(got.d_v), matrix(want.d_v));

    // Blocks of larger matrices: what is around them stays.
    M around_q = M::Constant(q.rows() + 2, q.cols() + 3, 7.f),
      around_k = M::Constant(k.rows() + 2, k.cols() + 3, 7.f),
      around_v = M::Constant(v.rows() + 2, v.cols() + 3, 7.f);
    auto d_q = around_q.block(1, 2, q.rows(), q.cols());
    auto d_k = around_k.block(1, 2, k.rows(), k.cols());
    auto d_v = around_v.block(1, 2, v.rows(), v.cols());
    attend.backward_into(d_q, d_k, d_v, q, k, v, out, lse, d_out, fovea::lse_gradient(d_lse));
    EXPECT_EQ(M(d_q), got.d_q);
    EXPECT_EQ(M(d_k), got.d_k);
    EXPECT_EQ(M(d_v), got.d_v);
    d_q.setConstant(7.f), d_k.setConstant(7.f), d_v.setConstant(7.f);
    EXPECT_TRUE((around_q.array() == 7.f).all() && (around_k.array() == 7.f).all() &&
                (around_v.array() == 7.f).all());
  };
  check(Matrix{});
  check(Eigen::MatrixXf{});
}

TEST(gradient_bits, of_ragged_sequences_are_those_of_each_alone) {
  const fovea::attention<float, 2> attend;
  const std::vector<index_type> starts{0, 33, 33, 73}, key_starts{0, 20, 61, 101};
  const Matrix q = Matrix::Random(73, 16), k = Matrix::Random(101, 16), v = Matrix::Random(101, 12),
               d_out = Matrix::Random(73, 12);
  const fovea::ragged qs(q, starts), ks(k, key_starts), vs(v, key_starts), d_outs(d_out, starts);
  masks all_masks({.batch = 3});
  all_masks.left = 25, all_masks.lengths = {20, 30, 40};
  auto [out, lse] = all_masks.with([&](auto... mods) { return attend.with_lse(qs, ks, vs, mods...); });
  const auto all = all_masks.with([&](auto... mods) {
    return attend.backward(qs, ks, vs, fovea::ragged(out, starts), fovea::ragged(lse, starts), d_outs,
                           mods...);
  });
  for (std::size_t b = 0; b < 3; ++b) {
    const auto rows = [&](const Matrix& m) -> Matrix {
      return m.middleRows(starts[b], starts[b + 1] - starts[b]);
    };
    const auto keys = [&](const Matrix& m) -> Matrix {
      return m.middleRows(key_starts[b], key_starts[b + 1] - key_starts[b]);
    };
    const Matrix qb = rows(q), kb = keys(k), vb = keys(v), ob = rows(d_out);
    masks one_mask({.batch = 1});
    one_mask.left = 25, one_mask.lengths = {all_masks.lengths[b]};
    const auto one = one_mask.with([&](auto... mods) { return attend.with_lse(qb, kb, vb, mods...); });
    const auto got = one_mask.with(
        [&](auto... mods) { return attend.backward(qb, kb, vb, one.out, one.lse, ob, mods...); });
    EXPECT_EQ(got.d_q, rows(all.d_q));
    EXPECT_EQ(got.d_k, keys(all.d_k));
    EXPECT_EQ(got.d_v, keys(all.d_v));
  }
}

TEST(gradient_bits, are_the_same_in_given_memory_which_is_all_that_is_used) {
  for (const sizes& n : shapes) {
    const operands<float> x(n);
    fovea::attention_options options{.heads = n.heads, .kv_heads = n.kv_heads};
    const fovea::attention<float> attend{options};
    const auto want = differentiated(n, x, no_rules{}, {});
    auto d_q = want.d_q, d_k = want.d_k, d_v = want.d_v;
    const auto planned =
        attend.backward_plan_for(d_q, d_k, d_v, x.q, x.k, x.v, want.out, want.lse, x.d_out).workspace_bytes();
    std::vector<std::byte> memory(static_cast<std::size_t>(planned) + 64, std::byte{0x5a});
    options.workspace = std::span(memory).first(memory.size() - 64);
    const fovea::attention<float> given{options};
    const auto before = allocations().calls;
    given.backward_into(d_q, d_k, d_v, x.q, x.k, x.v, want.out, want.lse, x.d_out,
                        fovea::lse_gradient(x.d_lse));
    EXPECT_EQ(allocations().calls, before);
    expect_same({want.out, want.lse, d_q, d_k, d_v}, want);
    for (std::size_t i = memory.size() - 64; i < memory.size(); ++i) ASSERT_EQ(memory[i], std::byte{0x5a});
  }
}

TEST(gradient_plans, say_what_a_call_will_do_in_linear_memory) {
  const fovea::attention<float, 8, 2> attend;
  const auto bytes = [&](index_type tokens) {
    tensor<float> q(1, 8, tokens, 64), k(1, 2, tokens, 64), lse(1, 8, tokens, 1);
    auto d_q = q, d_k = k, d_v = k;
    const auto plan = attend.backward_plan_for(d_q, d_k, d_v, q, k, k, q, lse, q);
    EXPECT_NE(plan.explain().find("96 keys in lanes x 96 queries"), std::string::npos) << plan.explain();
    return plan.workspace_bytes();
  };
  EXPECT_LT(bytes(8000), 2.1 * static_cast<double>(bytes(4000)));
}

TEST(gradient_plans, give_each_job_heads_and_each_head_a_job) {
  for (const index_type kv_heads : {1, 2, 3, 5, 16})
    for (index_type group = 1; group <= 40; ++group) {
      const fovea::gradient_job_list jobs{100, 3000, kv_heads * group, kv_heads, 384};
      std::vector<index_type> keys(static_cast<std::size_t>(kv_heads * group));
      for (index_type i = 0; i < jobs.count(); ++i) {
        const auto job = jobs.at(0, i);
        ASSERT_LT(job.heads.first, job.heads.last) << group << " heads a group, job " << i;
        for (index_type h = job.heads.first; h < job.heads.last; ++h) {
          ASSERT_EQ(h / group, job.kv_head);
          keys[static_cast<std::size_t>(h)] += job.keys.size();
        }
      }
      EXPECT_EQ(keys, std::vector<index_type>(keys.size(), 3000)) << kv_heads << " x " << group;
    }
}

TEST(backward, refuses_what_does_not_fit_before_anything_is_written) {
  const fovea::attention<float, 2> attend;
  const Matrix q = Matrix::Random(5, 8), k = Matrix::Random(7, 8), v = Matrix::Random(7, 12);
  const Matrix out = Matrix::Zero(5, 12), lse = Matrix::Zero(5, 2), d_out = Matrix::Random(5, 12);
  Matrix d_q = Matrix::Constant(5, 8, 7.f), d_k = Matrix::Constant(7, 8, 7.f),
         d_v = Matrix::Constant(7, 12, 7.f);
  Matrix few = Matrix::Constant(4, 8, 7.f), thin = Matrix::Constant(7, 10, 7.f);
  const auto refuse = [&](Matrix& to_q, Matrix& to_k, Matrix& to_v, const Matrix& o, const Matrix& l,
                          const Matrix& g, std::initializer_list<const char*> parts) {
    expect_refused([&] { attend.backward_into(to_q, to_k, to_v, q, k, v, o, l, g); }, parts);
    EXPECT_TRUE((d_q.array() == 7.f).all() && (d_k.array() == 7.f).all() && (d_v.array() == 7.f).all());
  };
  refuse(few, d_k, d_v, out, lse, d_out, {"d_q has 4 tokens", "q has 5"});
  refuse(d_q, thin, d_v, out, lse, d_out, {"d_k has 5 columns a head", "4"});
  refuse(d_q, d_k, thin, out, lse, d_out, {"d_v has 5 columns a head", "6"});
  refuse(d_q, d_k, d_v, few, lse, d_out, {"out has 4 tokens", "q has 5"});
  refuse(d_q, d_k, d_v, out, d_out, d_out, {"lse has 6 columns a head", "1"});
  refuse(d_q, d_k, d_v, out, lse, thin, {"d_out has 7 tokens", "q has 5"});
  expect_refused(
      [&] { attend.backward_into(d_q, d_k, d_v, q, k, v, out, lse, d_out, fovea::lse_gradient(few)); },
      {"d_lse has 4 tokens", "q has 5"});
  std::byte bytes[8];
  const fovea::attention<float, 2> cramped{{.workspace = bytes}};
  expect_refused([&] { cramped.backward_into(d_q, d_k, d_v, q, k, v, out, lse, d_out); },
                 {"workspace has 8 bytes"});
}

TEST(backward, refuses_rules_that_do_not_fit) {
  const sizes n{1, 2, 1, 5, 7, 4, 6};
  const operands<float> x(n);
  const auto refuse = [&](auto change, std::initializer_list<const char*> parts) {
    everything e(n);
    change(e);
    expect_refused([&] { differentiated(n, x, e, {}); }, parts);
  };
  refuse([](everything& e) { e.rate = 1; }, {"dropout's rate is 1", "not within 0 and 1"});
  refuse([](everything& e) { e.d_slopes.resize(3); }, {"2 slopes", "d_slopes has 3"});
  refuse([](everything& e) { e.d_sinks.resize(3); }, {"2 logits", "d_logits has 3"});
  refuse([](everything& e) { e.d_addend = tensor<double>(1, 1, 1, 7); },
         {"gradient has 7 columns", "the bias 1"});
  refuse([](everything& e) { e.lengths[0] = 8; }, {"8", "7 keys"});
}

}  // namespace
}  // namespace fovea_test
