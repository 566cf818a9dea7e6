// A vision Transformer learns what pictures show, and its class token looks at the patches that show it.
#include "patches/overlay.hpp"
#include "patches/train.hpp"
#include "png.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace {

TEST(patches, learn_to_see_shapes) {
  const auto trained = patches::train({.steps = 200, .batch = 24}, [](patches::Index, double) {});
  const patches::score after = patches::test(trained, 200, 1);
  EXPECT_GT(after.right, 0.8);
  EXPECT_GT(after.attention, 2);
}

TEST(patches, gradient_is_that_of_the_loss) {
  const auto x = patches::draw_scenes(2, 7);
  patches::model m;
  const auto loss = [&] {
    patches::saved s;
    return transformer::cross_entropy<float>()(patches::logits_of(m, x.pictures, s), x.shape).sum / 2;
  };
  patches::saved s;
  const auto at = transformer::cross_entropy<float>()(patches::logits_of(m, x.pictures, s), x.shape);
  patches::model gradient = transformer::zeros_like(m);
  patches::add_gradient(m, at.gradient, s, gradient);
  // A step along the gradient of each parameter alone changes the loss by its squared length.
  for (auto& p : transformer::parameters_of<float>(m, gradient)) {
    const double squares = double(p.gradient.squaredNorm());
    if (squares < 1e-9) continue;  // of a key's bias, which no softmax feels
    const auto step = float(2e-3 / std::sqrt(squares));
    const transformer::Matrix<float> value = p.value;
    p.value = value + step * p.gradient;
    const double above = loss();
    p.value = value - step * p.gradient;
    const double below = loss();
    p.value = value;
    EXPECT_NEAR((above - below) / (2 * double(step) * squares), 1, 0.03) << p.name;
  }
}

TEST(patches, overlay_lights_where_attention_is) {
  fovea::raster white(patches::side, patches::side);
  patches::Matrix attention = patches::Matrix::Zero(patches::across, patches::across);
  attention(2, 5) = 1;
  const auto panels = patches::overlay(white, attention, 1);
  EXPECT_EQ(panels.width, 2 * patches::side + 2);
  const auto light = [&](patches::Index patch_row, patches::Index patch_col, patches::Index from) {
    const auto x = from + patch_col * patches::patch + patches::patch / 2;
    return panels
        .pixels[std::size_t(3 * ((patch_row * patches::patch + patches::patch / 2) * panels.width + x))];
  };
  EXPECT_EQ(light(2, 5, 0), 255);
  EXPECT_GT(light(2, 5, patches::side + 2), 200);
  EXPECT_EQ(light(2, 2, patches::side + 2), 51);
}

std::string in_temp(const std::string& name) {
  return (std::filesystem::path(testing::TempDir()) / ("fovea_patches_" + name)).string();
}

TEST(patches, program_looks_at_a_file_that_it_drew) {
  const std::string program = "'" PATCHES "' ", drawn = in_temp("drawn.png"), lit = in_temp("lit.png");
  ASSERT_EQ(std::system((program + "--draw " + drawn + " --seed 3 > " + in_temp("said.txt")).c_str()), 0);
  const auto picture = examples::read_png(drawn);
  EXPECT_EQ(picture.pixels, patches::draw_scene(transformer::random_key(3, 0xd4a3)).picture.pixels);
  ASSERT_EQ(
      std::system(
          (program + drawn + " --steps 1 --batch 1 --overlay " + lit + " > " + in_temp("said.txt")).c_str()),
      0);
  const auto seen = examples::read_png(lit);
  EXPECT_EQ(seen.width, 2 * 4 * patches::side + 8);
  for (fovea::index_type x = 0; x < 4 * patches::side; ++x)
    EXPECT_EQ(seen.pixels[std::size_t(3 * x)], picture.pixels[std::size_t(3 * (x / 4))]);

  examples::write_png(drawn, fovea::raster(60, 64));
  EXPECT_NE(std::system((program + drawn + " 2> " + in_temp("errors.txt")).c_str()), 0);
  std::ifstream errors(in_temp("errors.txt"));
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(errors), {}),
            "patches: " + drawn + " has 60 x 64 pixels, not 64 x 64\n");
}

}  // namespace
