// Uses that must not compile, one a macro; without any of them the file compiles.
#include <fovea/attention.hpp>

#include <string>

using Matrix = Eigen::MatrixXf;

int main() {
  Matrix m = Matrix::Random(4, 8);
  const Matrix constant = m;
  fovea::attention<float, 2> attend;
  Matrix o = attend(m, m, m);
#ifdef FOVEA_WRONG_USE_element_of_the_class
  fovea::attention<int, 2> wrong;
#endif
#ifdef FOVEA_WRONG_USE_heads
  fovea::attention<float, 0> wrong;
#endif
#ifdef FOVEA_WRONG_USE_kv_heads
  fovea::attention<float, 4, 3> wrong;
#endif
#ifdef FOVEA_WRONG_USE_query_element
  const Eigen::MatrixXd wide = m.cast<double>();
  attend(wide, m, m);
#endif
#ifdef FOVEA_WRONG_USE_not_a_view
  attend(std::string("q"), m, m);
#endif
#ifdef FOVEA_WRONG_USE_expression
  attend(m + m, m, m);
#endif
#ifdef FOVEA_WRONG_USE_modifier
  attend(m, m, m, 0.5f);
#endif
#ifdef FOVEA_WRONG_USE_two_sinks
  const float logits[] = {0, 0};
  attend(m, m, m, fovea::sink{logits}, fovea::sink{logits});
#endif
#ifdef FOVEA_WRONG_USE_constant_result
  attend.into(constant, m, m, m);
#endif
#ifdef FOVEA_WRONG_USE_temporary_bias
  attend(m, m, m, fovea::bias(Matrix(4, 4)));
#endif
#ifdef FOVEA_WRONG_USE_score_arguments
  attend(m, m, m, fovea::score([](auto s) { return s; }));
#endif
}
