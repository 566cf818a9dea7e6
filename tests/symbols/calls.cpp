// A translation unit that uses most of the library.
#include <fovea/inspect.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/multi_head.hpp>
#include <fovea/position.hpp>

#include <sstream>
#include <vector>

float use_most_of_the_library(const std::vector<fovea::bf16>& half) {
  using Matrix = Eigen::MatrixXf;
  const Matrix m = Matrix::Random(5, 8);
  const std::vector<float> slopes(2, 0.5f);
  fovea::threads pool(2);
  const fovea::attention<float, 2> attend{{.executor = pool}};
  Matrix o = attend(m, m, m, fovea::causal & fovea::sliding_window{.left = 2}, fovea::alibi{slopes},
                    fovea::softcap{3.f});
  const Matrix bias = Matrix::Random(5, 5);
  o += attend(m, m, m, fovea::bias(bias), fovea::mask([](auto q, auto k) { return k != q; }));
  o += fovea::merge(attend.with_lse(m, m, m), attend.with_lse(m, m, m)).out;
  const auto view = fovea::bhsd(half.data(), 1, 2, 5, 4);
  const auto t = fovea::attention<fovea::bf16, 2>()(view, view, view, fovea::causal);
  std::vector<float> d_slopes(2);
  Matrix d_bias(5, 5), sums = Matrix::Zero(9, 2), lse = attend.with_lse(m, m, m).lse;
  const auto gradients =
      attend.backward(m, m, m, o, lse, m, fovea::lse_gradient(lse), fovea::causal, fovea::bias(bias, d_bias),
                      fovea::alibi{.slopes = slopes, .d_slopes = d_slopes}, fovea::sink{slopes, d_slopes},
                      fovea::score([](auto s, auto q, auto k) { return s * (q - k); }),
                      fovea::dropout{.rate = 0.5, .seed = 1});
  o += gradients.d_q + gradients.d_v;
  o(0, 0) += float(attend.backward_plan_for(o, o, o, m, m, m, m, lse, m).explain().size());
  const fovea::multi_head<float, 2> layer({.width = 8});
  fovea::multi_head<float, 2>::saved saved;
  auto of_layer = layer.zero_gradient();
  const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> x = m, y = layer(x, saved,
                                                                                               fovea::causal);
  o += layer.backward(y, saved, of_layer, fovea::causal).x;
  const fovea::rotary_table<float> table(9, 4);
  fovea::kv_cache<std::int8_t, 2> cache(9, 4);
  cache.append(m, m, table.angles());
  fovea::page_pool<float, 2> pages({.pages = 3, .page_tokens = 4, .dim = 4});
  fovea::paged_cache<float, 2> paged(pages);
  fovea::ring_cache<fovea::fp16, 2> ring(3, 4, {.sinks = 1});
  paged.append(m, m), ring.append(m, m);
  std::stringstream file;
  cache.save(file), cache.load(file);
  o += attend(m, cache, fovea::causal) + attend(m, paged.fork());
  o.topRows(1) += attend(Matrix(m.topRows(1)), ring, fovea::causal);
  o += attend(m, cache, fovea::causal, fovea::add_received(sums));
  cache.keep(std::vector<fovea::index_type>{1, 3});
  o(0, 0) += attend.received(m, m)(0, 0, 0, 0);
  const auto weights = attend.weights(m, m);
  const std::vector layers{weights, weights};
  const auto rows = attend.statistics(m, m), same = fovea::statistics_of(weights);
  const auto maps = fovea::maps_of(layers, "title", {"a", "b", "c", "d", "e"});
  fovea::write_svg(file, maps), fovea::write_svg(file, maps.only(0, 1)), fovea::write_page(file, maps);
  for (const auto& found : fovea::find_unusual_heads(rows)) file << found.explain();
  o(0, 0) += float(fovea::summarise_head(same, 0, 0).entropy + fovea::rollout(layers)(0, 0, 0, 0) +
                   fovea::head_similarity(weights)(0, 0, 0, 1) + double(fovea::draw(maps).width));
  const fovea::yarn_scaling yarn{.factor = 4, .original_context = 9};
  const fovea::rotary_table<float> longer(9, fovea::mrope_frequencies(yarn.frequencies(4), {2, 0, 0}));
  fovea::rotate_back(o, longer.angles(), {.heads = 2}), fovea::add_positions(o, m);
  o(0, 0) += float(fovea::alibi_slopes(3)[0] + fovea::axial_frequencies({2, 2}).values[0]);
  return o.sum() + t(0, 0, 0, 0) + attend.weights_of(1, m, m).sum() +
         float(attend.plan_for(m, m, m).explain().size());
}
