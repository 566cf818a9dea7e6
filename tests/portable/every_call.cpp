// Every public call, with each mask, score, element, view and cache: compiled with every warning, and as other people
// compile. It is never run.
#include <fovea/additive.hpp>
#include <fovea/cosine.hpp>
#include <fovea/decomposed.hpp>
#include <fovea/differential.hpp>
#include <fovea/differential/reference.hpp>
#include <fovea/hard.hpp>
#include <fovea/inspect.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/linear_attention.hpp>
#include <fovea/luong.hpp>
#include <fovea/multi_head.hpp>
#include <fovea/position.hpp>
#include <fovea/reference.hpp>
#include <fovea/sigmoid_attention.hpp>
#include <fovea/talking_heads.hpp>
#include <fovea/top_blocks.hpp>
#include <fovea/transformer_xl.hpp>
#include <fovea/view/eigen_tensor.hpp>

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using fovea::index_type;

struct inputs {
  Rows m, bias, lse;
  std::vector<float> slopes, gradients;
  std::vector<index_type> offsets, lengths;
  std::vector<std::uint8_t> visible;
};

void forward(const inputs& x, Rows& o) {
  fovea::threads pool(2);
  const fovea::attention<float, 2> attend{{.scale = 0.5, .executor = pool}};
  const fovea::attention<float> any{{.heads = 4, .kv_heads = 2}};
  const auto seen = fovea::bhsd(x.visible.data(), 1, 1, 5, 5);
  o = attend(x.m, x.m, x.m, fovea::causal & fovea::sliding_window{.left = 2, .right = 0},
             fovea::alibi{.slopes = x.slopes, .offset = 1}, fovea::softcap{3.f}, fovea::sink{x.slopes},
             fovea::dropout{.rate = 0.5, .seed = 1});
  attend.into(o, x.m, x.m, x.m, fovea::boolean_mask(seen), fovea::bias(x.bias),
              fovea::score([](auto s, auto q, auto k) { return s - abs(q - k); }),
              fovea::mask([](auto q, auto k) { return (k <= q) | (k == 3); }));
  attend.into(o, x.m, x.m, x.m, fovea::key_lengths{x.lengths}, fovea::causal_top_left, fovea::softcap{3.0});
  attend.into(o, x.m, x.m, x.m, fovea::left_padding{x.lengths}, fovea::causal_bottom_right);
  any.into(o, x.m, x.m, x.m, fovea::causal_offset{1});
  const Rows table = Rows::Ones(4, 2), offsets = Rows::Ones(9, 1);
  o += attend(x.m, x.m, x.m, fovea::t5_bias(table), fovea::swin_bias(offsets, {.height = 1, .width = 5}),
              fovea::bias_table(table, [](auto q, auto k) { return q + k; }));
  const auto a = attend.with_lse(x.m, x.m, x.m), b = fovea::merge(a, a);
  Rows lse = x.lse;
  attend.with_lse_into(o, lse, x.m, x.m, x.m);
  o += b.out;
  Rows sums = Rows::Zero(5, 2);
  attend.into(o, x.m, x.m, x.m, fovea::causal, fovea::add_received(sums));
  const fovea::ragged packed{x.m, x.offsets};
  o += attend(packed, packed, packed, fovea::causal);
  o(0, 0) += float(attend.plan_for(x.m, x.m, x.m).explain().size());
}

void hard_choices(const inputs& x, Rows& o) {
  const fovea::hard<float, 2> look;
  look.into(o, x.m, x.m, x.m, fovea::argmax{}, fovea::causal, fovea::softcap{3.f});
  o += look(x.m, x.m, x.m, fovea::top<3>{}, fovea::sink{x.slopes});
  const auto seen = look.with_log_p(x.m, x.m, x.m, fovea::sampled{.seed = 1}, fovea::causal);
  o += look.reinforce(x.m, x.m, x.m, seen, x.m, x.lse, fovea::causal).d_q;
  o += look.straight_through(x.m, x.m, x.m, x.m, fovea::causal).d_q;
  std::vector<std::byte> room(1 << 16);
  look.into(o, x.m, x.m, x.m, fovea::argmax{}, look.plan_for(x.m, x.m, x.m, fovea::argmax{}),
            fovea::workspace{room});
  fovea::kv_cache<std::int8_t, 2> cache(9, 4);
  cache.append(x.m, x.m);
  const auto in_cache = look.with_log_p(x.m, cache, fovea::argmax{}, fovea::causal);
  o += look.reinforce(x.m, cache, in_cache, x.m, x.lse, fovea::causal).d_q;
  o += look.straight_through(x.m, cache, x.m, fovea::causal).d_q;
  o(0, 0) += float(
      look.picks(x.m, cache, fovea::argmax{}, look.picks_plan_for(x.m, cache, fovea::argmax{}))(0, 0, 0, 0));
}

template <class Layer, class Gradient>
void every_call_of(const Layer& attend, Gradient gradient, const inputs& x, Rows& o) {
  attend.into(o, x.m, x.m, x.m, fovea::causal, fovea::softcap{3.f});
  o += attend(x.m, x.m, x.m, fovea::sink{x.slopes});
  const auto [out, lse] = attend.with_lse(x.m, x.m, x.m, fovea::causal);
  o += attend.backward(x.m, x.m, x.m, out, lse, x.m, gradient, fovea::causal).d_q;
  o(0, 0) += attend.weights(x.m, x.m)(0, 0, 0, 0);
}

void scored_otherwise(const inputs& x, Rows& o) {
  using fovea::luong_score, fovea::luong_window;
  fovea::kv_cache<float, 2> cache(5, 4);
  const fovea::additive<float, 2> network({.hidden = 4, .query_dim = 4, .normalised = true});
  cache.append(network.project_keys(x.m), x.m);
  o = network(x.m, cache);
  every_call_of(network, network.zero_gradient(), x, o);
  const fovea::cosine<float, 2> angles;
  every_call_of(angles, angles.zero_gradient(), x, o);
  const fovea::decomposed<float, 2> in_grid({.height = 1, .width = 5, .dim = 4});
  every_call_of(in_grid, in_grid.zero_gradient(), x, o);
  const fovea::transformer_xl<float, 2> by_distance({.dim = 4, .reach = 4});
  every_call_of(by_distance, by_distance.zero_gradient(), x, o);
  const fovea::luong<float, luong_score::general, luong_window::local_p, 2> predicts({.query_dim = 4});
  every_call_of(predicts, predicts.zero_gradient(), x, o);
  const fovea::luong<float, luong_score::concat, luong_window::local_m, 2> both(
      {.query_dim = 4, .hidden = 4});
  every_call_of(both, both.zero_gradient(), x, o);
}

void with_a_state(const inputs& x, Rows& o) {
  const Rows rate = Rows::Constant(5, 2, 0.5f), decays = -x.m.cwiseAbs();
  fovea::tensor<float> s(1, 2, 4, 4);
  const fovea::linear_attention<float, 2> attend({.l2_norm = true});
  const fovea::log_decay g(decays);
  const fovea::delta_rule b(rate);
  o += attend(x.m, x.m, x.m);
  o += attend(x.m, x.m, x.m, g, b, fovea::linear_state(s));
  const auto plan = attend.into_plan_for(o, x.m, x.m, x.m, b, g);
  std::vector<std::byte> memory(static_cast<std::size_t>(plan.workspace_bytes()));
  attend.into(o, x.m, x.m, x.m, b, g, fovea::workspace{memory});
}

void two_softmaxes(const inputs& x, Rows& o) {
  const fovea::differential<float, 2> attend({.dim = 4, .lambda_init = fovea::differential_lambda_init(1)});
  const Rows v = x.m.leftCols(4);
  Rows out = Rows::Zero(5, 4);
  attend.into(out, x.m, x.m, v, fovea::causal);
  const auto given = attend.with_lse(x.m, x.m, v, fovea::softcap{3.f});
  auto gradient = attend.zero_gradient();
  o += attend.backward(x.m, x.m, v, given.halves, given.lse, v, gradient, fovea::softcap{3.f}).d_q;
  o(0, 0) += attend.weights(x.m, x.m)(0, 0, 0, 0) + float(attend.plan_for(x.m, x.m, v).explain().size());
  o(0, 0) += float(fovea::differential_reference(x.m, x.m, v, {.heads = 2}, attend.lambda()).out(0, 0, 0, 0));
}

void talking(const inputs& x, Rows& o) {
  const fovea::talking_heads<float, 2> attend;
  auto gradient = attend.zero_gradient();
  attend.into(o, x.m, x.m, x.m, fovea::causal);
  o = attend(x.m, x.m, x.m, fovea::softcap{3.f}) + attend.backward(x.m, x.m, x.m, o, gradient).d_q;
}

void sigmoids(const inputs& x, Rows& o) {
  const fovea::sigmoid_attention<float, 2> attend({.bias = -1});
  Rows d_q(5, 8), d_k(5, 8), d_v(5, 8);
  attend.into(o, x.m, x.m, x.m, fovea::causal);
  attend.backward_into(d_q, d_k, d_v, x.m, x.m, x.m, o, fovea::softcap{3.f});
  o = attend(x.m, x.m, x.m) + attend.backward(x.m, x.m, x.m, d_q, fovea::causal).d_v;
  o(0, 0) += attend.weights(x.m, x.m)(0, 0, 0, 0) + float(attend.plan_for(x.m, x.m, x.m).explain().size());
  o(0, 0) += float(fovea::reference(x.m, x.m, x.m, {.heads = 2}, fovea::sigmoid_weights{}).out(0, 0, 0, 0));
}

template <class E>
void elements(const std::vector<E>& data, fovea::tensor<E>& o) {
  const auto view = fovea::bhsd(data.data(), 1, 2, 5, 4), other = fovea::bshd(data.data(), 1, 5, 2, 4);
  const fovea::attention<E, 2, 1> grouped;
  const fovea::tensor_view<const E> one = fovea::bhsd(data.data(), 1, 1, 5, 4);
  o = fovea::attention<E, 2>()(view, other, view, fovea::causal);
  grouped.into(o, view, one, one, fovea::softcap{3.f});
}

/// The least that an mdspan has.
struct float_span {
  using element_type = const float;
  struct extents_of {
    int tokens, columns;
    int extent(std::size_t i) const { return i == 0 ? tokens : columns; }
  };
  const float* first;
  extents_of sizes;
  static constexpr std::size_t rank() { return 2; }
  const extents_of& extents() const { return sizes; }
  int stride(std::size_t i) const { return i == 0 ? sizes.columns : 1; }
  const float* data_handle() const { return first; }
};

void views_from_elsewhere(const inputs& x, Rows& o) {
  const fovea::attention<float, 2> attend;
  const float_span span{x.m.data(), {5, 8}};
  const auto of_span = attend(span, x.m, span, fovea::causal);
  const Eigen::TensorMap<const Eigen::Tensor<float, 4, Eigen::RowMajor>> map(of_span.data(), 1, 2, 5, 4);
  const Eigen::Tensor<float, 4, Eigen::RowMajor> of_map = attend(map, of_span, map);
  std::int64_t shape[] = {5, 8};
  const fovea::dl_tensor exported{o.data(), {1, 0}, 2, {2, 32, 1}, shape, nullptr, 0};
  attend.into(fovea::dlpack<float, 2>(exported), span, x.m, x.m);
  o(0, 0) += of_map(0, 0, 0, 0);
}

void gates(const inputs& x, Rows& o) {
  const fovea::attention<float, 2> attend;
  Rows d_gate(5, 8), d_q(5, 8), d_k(5, 8), d_v(5, 8);
  const auto [y, lse] = attend.with_lse(x.m, x.m, x.m, fovea::gate(x.m), fovea::causal);
  attend.backward_into(d_q, d_k, d_v, x.m, x.m, x.m, y, lse, o, fovea::gate(x.m, d_gate), fovea::causal);
  o = attend(x.m, x.m, x.m, fovea::gate(x.lse)) + d_gate +
      attend.backward(x.m, x.m, x.m, y, lse, o, fovea::gate(x.m)).d_q;
}

void looks(const inputs& x, Rows& o) {
  const fovea::attention<float, 2> attend;
  const auto weights = attend.weights(x.m, x.m, fovea::causal), scores = attend.scores(x.m, x.m);
  o = attend.weights_of(1, x.m, x.m);
  const fovea::ragged packed{x.m, x.offsets};
  o(0, 0) += attend.weights(packed, packed)(0, 0, 0, 0) + attend.received(packed, packed)(0, 0, 0, 0);
  o(0, 0) += attend.received(x.m, x.m, fovea::causal)(0, 0, 0, 0) + scores(0, 0, 0, 0);
  const auto rows = attend.statistics(x.m, x.m, fovea::alibi{x.slopes}), same = fovea::statistics_of(weights);
  const std::vector layers{weights, weights};
  const auto maps = fovea::maps_of(layers, "title", {"a", "b", "c", "d", "e"});
  std::stringstream file;
  fovea::write_svg(file, maps.only(0, 1)), fovea::write_page(file, maps);
  for (const auto& found : fovea::find_unusual_heads(rows)) file << found.explain();
  const double sum = fovea::summarise_head(same, 0, 0).entropy + fovea::rollout(layers)(0, 0, 0, 0) +
                     fovea::head_similarity(weights)(0, 0, 0, 1);
  o(0, 0) += float(sum) + float(fovea::draw(maps).width);
  const auto seen = fovea::bhsd(x.visible.data(), 1, 1, 5, 5);
  const auto expected = fovea::reference(
      x.m, x.m, x.m, {.heads = 2}, fovea::causal & fovea::sliding_window{.left = 2}, fovea::alibi{x.slopes},
      fovea::bias(x.bias), fovea::softcap{3.f}, fovea::sink{x.slopes}, fovea::dropout{.rate = 0.5, .seed = 1},
      fovea::boolean_mask(seen), fovea::score([](auto s, auto q, auto k) { return s * (q - k); }),
      fovea::mask([](auto q, auto k) { return k != q; }), fovea::key_lengths{x.lengths});
  o(0, 0) += float(expected.out(0, 0, 0, 0));
}

void backward(inputs& x, Rows& o) {
  const fovea::attention<float, 2> attend;
  Rows d_bias(5, 5), d_q(5, 8), d_k(5, 8), d_v(5, 8);
  const auto faded = [](auto s, auto q, auto k) {
    using std::abs, std::exp, std::tanh;
    return tanh(s) * exp(-abs(q - k));
  };
  const auto learnt = [&] {
    return attend.backward(
        x.m, x.m, x.m, o, x.lse, x.m, fovea::lse_gradient(x.lse), fovea::causal, fovea::bias(x.bias, d_bias),
        fovea::alibi{.slopes = x.slopes, .d_slopes = x.gradients}, fovea::sink{x.slopes, x.gradients},
        fovea::score(faded), fovea::softcap{3.f}, fovea::dropout{.rate = 0.5, .seed = 1});
  };
  o = learnt().d_q;
  const Rows table = Rows::Ones(4, 2), offsets = Rows::Ones(9, 1);
  Rows d_table(4, 2), d_t5(4, 2), d_offsets(9, 1);
  attend.backward(x.m, x.m, x.m, o, x.lse, x.m, fovea::t5_bias(table, d_t5),
                  fovea::swin_bias(offsets, d_offsets, {.height = 1, .width = 5}),
                  fovea::bias_table(table, d_table, [](index_type q, index_type k) { return q * k % 5; }));
  o(0, 0) += d_table.sum() + d_t5.sum() + d_offsets.sum();
  attend.backward_into(d_q, d_k, d_v, x.m, x.m, x.m, o, x.lse, x.m);
  o(0, 0) += float(attend.backward_plan_for(d_q, d_k, d_v, x.m, x.m, x.m, o, x.lse, x.m).explain().size());
}

void caches(const inputs& x, Rows& o) {
  const fovea::attention<float, 2> attend;
  const fovea::rotary_table<float> table(9, 4);
  fovea::kv_cache<std::int8_t, 2> cache(9, 4);
  cache.append(x.m, x.m, table.angles());
  std::stringstream file;
  cache.save(file), cache.load(file), cache.reserve(12);
  cache.keep(std::vector<index_type>{1, 3});
  Rows sums = Rows::Zero(12, 2);
  attend.into(o, x.m, cache, fovea::causal, fovea::add_received(sums));
  const std::string bytes = file.str();
  const auto mapped = fovea::kv_cache<std::int8_t, 2>::over(std::as_bytes(std::span(bytes)));
  o += attend(x.m, mapped) + attend.with_lse(x.m, mapped).out;
  fovea::page_pool<float, 2> pages({.pages = 3, .page_tokens = 4, .dim = 4});
  pages.grow(5);
  std::vector<fovea::paged_cache<float, 2>> sequences;
  sequences.emplace_back(pages).append(x.m, x.m);
  sequences.push_back(sequences[0].fork());
  fovea::reorder(std::span(sequences), std::vector<index_type>{1, 0});
  const std::vector<const fovea::paged_cache<float, 2>*> both{&sequences[0], &sequences[1]};
  const fovea::ragged packed{x.m, x.offsets};
  o += attend(packed, fovea::cache_batch{both}, fovea::causal);
  o += fovea::attend_shared_prefix(attend, packed, fovea::cache_batch{both}, 2);
  fovea::ring_cache<fovea::fp16, 2, fovea::bf16> ring(3, 4, {.sinks = 1});
  ring.append(x.m, x.m, table.angles()), ring.truncate(2);
  o += attend(x.m, ring, fovea::causal, fovea::sliding_window{.left = 2});
  o(0, 0) += attend.weights(x.m, ring)(0, 0, 0, 0) + float(attend.plan_for(x.m, ring).jobs);
}

void summaries(const inputs& x, Rows& o) {
  fovea::summarised_cache cache{fovea::kv_cache<float, 2>{9, 4}, {.side = 16}};
  cache.append(x.m, x.m), cache.truncate(5), cache.keep(std::vector<index_type>{0, 1, 2, 3, 4});
  const auto chosen = fovea::top_blocks(x.m, cache.summaries(), {.blocks = 1, .heads = 2});
  const fovea::attention<float, 2> attend;
  o += attend(x.m, cache, chosen.mask(), fovea::causal);
  o(0, 0) += float(fovea::kept_mass(attend, x.m, cache.keys(), chosen.mask(), fovea::causal));
}

void layers(const inputs& x, Rows& o) {
  const fovea::rotary_table<float> table(9, 4);
  fovea::multi_head<float, 2> layer({.width = 8, .normalised = true, .rotary = table.angles()});
  fovea::multi_head<float, 2>::saved saved;
  auto gradient = layer.zero_gradient();
  o = layer(x.m, saved, fovea::causal);
  o += layer.backward(o, saved, gradient, fovea::causal).x + layer(x.m, x.m) + layer(x.m, layer.project(x.m));
  o(0, 0) += layer.weights(x.m, x.m)(0, 0, 0, 0);
  fovea::kv_cache<float, 2> cache(9, 4);
  o += layer(x.m, cache, fovea::causal);
  Rows turned = x.m;
  const fovea::rotary_options options{.heads = 2, .pairs = fovea::rotary_pairs::interleaved, .first = 1};
  fovea::rotate(turned, table.angles(), options), fovea::rotate_into(o, turned, table.angles(), options);
}

void positions(const inputs& x, Rows& o) {
  const std::vector<float> factors{1, 2};
  const std::vector<int> at{3, 1, 2, 0, 4};
  const fovea::longrope_scaling longrope{
      .short_factors = factors, .long_factors = factors, .original_context = 9};
  const fovea::dynamic_ntk_scaling dynamic{.factor = 2, .original_context = 9, .tokens = 20};
  const fovea::yarn_scaling yarn{.factor = 2, .original_context = 9};
  const auto order = fovea::mrope_order::interleaved;
  for (const fovea::rotary_frequencies& f :
       {fovea::linear_scaling{.factor = 2}.frequencies(4), fovea::ntk_scaling{.factor = 2}.frequencies(4),
        fovea::llama3_scaling{}.frequencies(4), fovea::proportional_frequencies(4, 2), yarn.frequencies(4),
        dynamic.frequencies(4), longrope.frequencies(4), fovea::axial_frequencies({2, 2}),
        fovea::mrope_frequencies(fovea::plain_frequencies(4), {1, 1, 0}, order)}) {
    const fovea::rotary_table<float> table({at, at, at}, f);
    fovea::rotate_back(o, table.angles(), {.heads = 2});
    fovea::rotate_back_into(o, x.m, table.angles(), {.heads = 2});
  }
  const fovea::sinusoidal_table<float> table(5, 8, {.order = fovea::sinusoidal_order::halves});
  fovea::add_positions(o, table.values()), fovea::add_positions_into(o, x.m, x.m, {.positions = at});
  fovea::add_positions_gradient(o, x.m, {.scale = 2});
  o(0, 0) += float(fovea::alibi_slopes(3)[2]);
}

}  // namespace

int main() {
  inputs x{Rows::Random(5, 8),
           Rows::Random(5, 5),
           Rows::Zero(5, 2),
           std::vector<float>(2, 0.5f),
           std::vector<float>(2),
           {0, 3, 5},
           {5},
           std::vector<std::uint8_t>(25, 1)};
  Rows o = x.m;
  fovea::tensor<float> f32(1, 2, 5, 4);
  fovea::tensor<double> f64(1, 2, 5, 4);
  fovea::tensor<fovea::bf16> bf16(1, 2, 5, 4);
  fovea::tensor<fovea::fp16> fp16(1, 2, 5, 4);
  forward(x, o), hard_choices(x, o), views_from_elsewhere(x, o), looks(x, o), backward(x, o), caches(x, o),
      summaries(x, o), layers(x, o), positions(x, o), gates(x, o), scored_otherwise(x, o), with_a_state(x, o),
      two_softmaxes(x, o), sigmoids(x, o), talking(x, o);
  elements(std::vector<float>(40), f32), elements(std::vector<double>(40), f64);
  elements(std::vector<fovea::bf16>(40), bf16), elements(std::vector<fovea::fp16>(40), fp16);
  return o.allFinite() ? 0 : 1;
}
