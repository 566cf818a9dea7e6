// Uses that must not compile, one a macro, each by itself; without any of them the file compiles.
#include <fovea/hard.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/position/sinusoidal.hpp>
#include <fovea/sigmoid_attention.hpp>

#include <string>
#include <vector>

using Matrix = Eigen::MatrixXf;

/// Masks and scores that lack the member that says what they are.
struct mask_of_memory {
  fovea::matrix_view<const float> ids;
  auto visible(const auto& cells) const noexcept { return cells.load(ids) == cells.load(ids); }
};
struct score_without_stage {
  template <class V>
  V apply(const V& s, const V&, const V&) const noexcept {
    return s;
  }
};
struct mask_of_ints {
  using reads_cells = void;
  fovea::matrix_view<const int> ids;
  auto visible(const auto& cells) const noexcept { return cells.load(ids) == cells.load(ids); }
};

/// A state that does not say how two of it merge is none: few query rows need that.
struct state_without_merge {
  static constexpr int columns = 1;
  void clear(auto* stored) const noexcept { stored[0] = 0; }
  void absorb(auto* stored, const auto& logit, const auto&) const noexcept { stored[0] = stored[0] + logit; }
};
struct state_with_merge : state_without_merge {
  void merge(auto* stored, const auto* other) const noexcept { stored[0] = stored[0] + other[0]; }
};
static_assert(fovea::state_like<state_with_merge> && !fovea::state_like<state_without_merge>);

int main() {
  Matrix m = Matrix::Random(4, 8);
  const Matrix constant = m;
  const std::vector<float> two{0, 0};
  const std::vector<int> offsets{0, 4};
  const Eigen::Matrix<bool, 4, 4> bools = Eigen::Matrix<bool, 4, 4>::Constant(true);
  fovea::attention<float, 2> attend;
  fovea::kv_cache<float, 2> cache(4, 4);
  const fovea::threads pool{1};
  const auto lambda = [](auto q, auto k) { return k <= q; };
  if (m.size() == 0) {  // what the wrong uses are like, done right
    m = attend(m, m, m, fovea::mask(lambda), fovea::boolean_mask(bools), fovea::sink{two});
    m = attend(m, cache, fovea::causal);
    m = fovea::attention<float, 2>{{.scale = 0.1, .executor = pool}}(fovea::ragged{m, offsets}, cache);
  }
#ifdef FOVEA_WRONG_USE_element_of_the_class
  { fovea::attention<int, 2> wrong; }
#endif
#ifdef FOVEA_WRONG_USE_heads
  { fovea::attention<float, 0> wrong; }
#endif
#ifdef FOVEA_WRONG_USE_kv_heads
  { fovea::attention<float, 4, 3> wrong; }
#endif
#ifdef FOVEA_WRONG_USE_bare_scale
  { fovea::attention<float, 8> wrong{0.1}; }
#endif
#ifdef FOVEA_WRONG_USE_query_element
  {
    const Eigen::MatrixXd wide = m.cast<double>();
    attend(wide, m, m);
  }
#endif
#ifdef FOVEA_WRONG_USE_integer_query
  {
    const Eigen::MatrixXi whole = m.cast<int>();
    attend(whole, m, m);
  }
#endif
#ifdef FOVEA_WRONG_USE_not_a_view
  attend(std::string("q"), m, m);
#endif
#ifdef FOVEA_WRONG_USE_expression
  attend(m + m, m, m);
#endif
#ifdef FOVEA_WRONG_USE_mask_in_front
  attend(fovea::causal, m, m, m);
#endif
#ifdef FOVEA_WRONG_USE_mask_in_between
  attend.into(m, m, fovea::causal, m, m);
#endif
#ifdef FOVEA_WRONG_USE_mask_in_front_of_keys
  attend.weights(fovea::causal, m, m);
#endif
#ifdef FOVEA_WRONG_USE_cache_in_front
  attend(cache, m, fovea::causal);
#endif
#ifdef FOVEA_WRONG_USE_no_values
  attend(m, m);
#endif
#ifdef FOVEA_WRONG_USE_modifier
  attend(m, m, m, std::string("causal"));
#endif
#ifdef FOVEA_WRONG_USE_number
  attend(m, m, m, 0.5f);
#endif
#ifdef FOVEA_WRONG_USE_bare_function
  attend(m, m, m, lambda);
#endif
#ifdef FOVEA_WRONG_USE_bare_matrix
  attend.with_lse(m, m, m, bools);
#endif
#ifdef FOVEA_WRONG_USE_mask_without_reads_cells
  attend(m, m, m, mask_of_memory{});
#endif
#ifdef FOVEA_WRONG_USE_score_without_stage
  attend.scores(m, m, score_without_stage{});
#endif
#ifdef FOVEA_WRONG_USE_cells_of_ints
  attend(m, m, m, mask_of_ints{});
#endif
#ifdef FOVEA_WRONG_USE_two_sinks
  attend(m, m, m, fovea::sink{two}, fovea::sink{two});
#endif
#ifdef FOVEA_WRONG_USE_sink_of_sigmoids
  fovea::sigmoid_attention<float, 2>()(m, m, m, fovea::sink{two});
#endif
#ifdef FOVEA_WRONG_USE_constant_result
  attend.into(constant, m, m, m);
#endif
#ifdef FOVEA_WRONG_USE_score_arguments
  attend(m, m, m, fovea::score([](auto s) { return s; }));
#endif
#ifdef FOVEA_WRONG_USE_mask_of_floats
  attend(m, m, m, fovea::boolean_mask(m));
#endif
#ifdef FOVEA_WRONG_USE_mask_of_halves
  {
    const Eigen::Matrix<Eigen::half, 4, 4> halves = Eigen::Matrix<Eigen::half, 4, 4>::Zero();
    attend(m, m, m, fovea::boolean_mask(halves));
  }
#endif
#ifdef FOVEA_WRONG_USE_mask_of_bf16
  {
    const fovea::tensor<fovea::bf16> numbers(1, 1, 4, 4);
    attend(m, m, m, fovea::boolean_mask(numbers));
  }
#endif
#ifdef FOVEA_WRONG_USE_bias_of_bools
  attend(m, m, m, fovea::bias(bools));
#endif
#ifdef FOVEA_WRONG_USE_bias_of_ints
  {
    const Eigen::MatrixXi whole = m.cast<int>();
    attend(m, m, m, fovea::bias(whole));
  }
#endif
#ifdef FOVEA_WRONG_USE_temporary_bias
  attend(m, m, m, fovea::bias(Matrix(4, 4)));
#endif
#ifdef FOVEA_WRONG_USE_temporary_mask
  attend(m, m, m, fovea::boolean_mask(Eigen::MatrixXi(4, 4)));
#endif
#ifdef FOVEA_WRONG_USE_temporary_lengths
  attend(m, m, m, fovea::key_lengths{std::vector<int>{3}});
#endif
#ifdef FOVEA_WRONG_USE_temporary_ids
  attend(m, m, m, fovea::documents{std::vector<int>{3}});
#endif
#ifdef FOVEA_WRONG_USE_temporary_ids_a_sequence
  attend(m, m, m, fovea::documents{Eigen::MatrixXi(1, 4)});
#endif
#ifdef FOVEA_WRONG_USE_temporary_map
  attend(m, m, m, fovea::block_map(Eigen::MatrixXi(4, 4), {}));
#endif
#ifdef FOVEA_WRONG_USE_map_of_reals
  attend(m, m, m, fovea::block_map(m, {}));
#endif
#ifdef FOVEA_WRONG_USE_ids_of_reals
  attend(m, m, m, fovea::documents{two});
#endif
#ifdef FOVEA_WRONG_USE_ids_of_two_types
  {
    const std::vector<long> of_keys(4);
    attend(m, m, m, fovea::documents{offsets, of_keys});
  }
#endif
#ifdef FOVEA_WRONG_USE_temporary_starts
  attend(m, m, m, fovea::left_padding{Eigen::VectorXi(1)});
#endif
#ifdef FOVEA_WRONG_USE_listed_lengths
  attend(m, m, m, fovea::key_lengths{{3}});
#endif
#ifdef FOVEA_WRONG_USE_temporary_slopes
  attend(m, m, m, fovea::alibi{std::vector<double>{1, 2}});
#endif
#ifdef FOVEA_WRONG_USE_temporary_logits
  attend(m, m, m, fovea::sink{std::vector<float>{1, 2}});
#endif
#ifdef FOVEA_WRONG_USE_temporary_offsets
  { const fovea::ragged wrong{m, std::vector<int>{0, 4}}; }
#endif
#ifdef FOVEA_WRONG_USE_temporary_positions
  { const fovea::rotary_options wrong{.positions = std::vector<int>{0, 4}}; }
#endif
#ifdef FOVEA_WRONG_USE_temporary_packed
  { const fovea::ragged wrong{Matrix(4, 8), offsets}; }
#endif
#ifdef FOVEA_WRONG_USE_temporary_gradient_of_slopes
  attend(m, m, m, fovea::alibi{.slopes = two, .d_slopes = std::vector<float>(2)});
#endif
#ifdef FOVEA_WRONG_USE_temporary_sums
  attend(m, m, m, fovea::add_received(Matrix(4, 2)));
#endif
#ifdef FOVEA_WRONG_USE_temporary_weights
  attend(m, m, m, fovea::weights_into(Matrix(4, 4), 0));
#endif
#ifdef FOVEA_WRONG_USE_weights_of_no_head
  { Matrix w(4, 4); attend(m, m, m, fovea::weights_into(w)); }
#endif
#ifdef FOVEA_WRONG_USE_weights_of_weights
  { Matrix w(4, 4); attend.weights(m, m, fovea::weights_into(w, 0)); }
#endif
#ifdef FOVEA_WRONG_USE_temporary_gate
  attend(m, m, m, fovea::gate(Matrix(4, 2)));
#endif
#ifdef FOVEA_WRONG_USE_temporary_gradient_of_gates
  { const auto wrong = fovea::gate(m, Matrix(4, 8)); }
#endif
#ifdef FOVEA_WRONG_USE_gate_of_weights
  attend.weights(m, m, fovea::gate(m));
#endif
#ifdef FOVEA_WRONG_USE_temporary_lse_gradient
  { const auto wrong = fovea::lse_gradient(Matrix(4, 2)); }
#endif
#ifdef FOVEA_WRONG_USE_temporary_caches
  { const fovea::cache_batch wrong{std::vector<const fovea::kv_cache<float, 2>*>{&cache}}; }
#endif
#ifdef FOVEA_WRONG_USE_temporary_file
  fovea::kv_cache<float, 2>::over(std::vector<std::byte>(99));
#endif
#ifdef FOVEA_WRONG_USE_temporary_executor
  { const fovea::attention<float, 8> wrong{{.executor = fovea::threads{2}}}; }
#endif
#ifdef FOVEA_WRONG_USE_temporary_workspace
  { const fovea::attention<float, 8> wrong{{.workspace = std::vector<std::byte>(99)}}; }
#endif
#ifdef FOVEA_WRONG_USE_temporary_workspace_of_a_call
  attend(m, m, m, fovea::workspace{std::vector<std::byte>(99)});
#endif
#ifdef FOVEA_WRONG_USE_two_workspaces
  {
    std::vector<std::byte> bytes(99);
    attend(m, m, m, fovea::workspace{bytes}, fovea::workspace{bytes});
  }
#endif
#ifdef FOVEA_WRONG_USE_two_plans
  attend(m, m, m, fovea::plan{}, fovea::plan{});
#endif
#ifdef FOVEA_WRONG_USE_plan_of_backward
  attend(m, m, m, fovea::gradient_plan{});
#endif
#ifdef FOVEA_WRONG_USE_workspace_of_weights
  {
    std::vector<std::byte> bytes(99);
    attend.weights(m, m, fovea::workspace{bytes});
  }
#endif
#ifdef FOVEA_WRONG_USE_temporary_pool
  {
    fovea::paged_cache<float, 2> wrong(fovea::page_pool<float, 2>({.pages = 1, .dim = 4}));
    wrong.append(m, m);
  }
#endif
#ifdef FOVEA_WRONG_USE_no_choice
  fovea::hard<float, 2>()(m, m, m, fovea::causal);
#endif
#ifdef FOVEA_WRONG_USE_dropout_of_hard_attention
  fovea::hard<float, 2>()(m, m, m, fovea::argmax{}, fovea::dropout{.rate = 0.5});
#endif
#ifdef FOVEA_WRONG_USE_temporary_angles
  fovea::rotate(m, fovea::rotary_table<float>(4, 4).angles());
#endif
#ifdef FOVEA_WRONG_USE_temporary_values
  static_cast<void>(fovea::sinusoidal_table<float>(4, 4).values());
#endif
#ifdef FOVEA_WRONG_USE_temporary_tensor
  attend(m, m, m, fovea::bias(fovea::tensor<float>(1, 1, 4, 4).view()));
#endif
#ifdef FOVEA_WRONG_USE_lengths_of_reals
  attend(m, m, m, fovea::key_lengths{two});
#endif
#ifdef FOVEA_WRONG_USE_one_slope
  attend(m, m, m, fovea::alibi{0.5f});
#endif
#ifdef FOVEA_WRONG_USE_matrix_of_offsets
  {
    const Eigen::MatrixXi starts = Eigen::MatrixXi::Zero(2, 2);
    const fovea::ragged wrong{m, starts};
  }
#endif
#ifdef FOVEA_WRONG_USE_backward_of_a_cache
  attend.backward_into(m, m, m, m, cache.keys(), cache.values(), m, m, m);
#endif
}
