// glimpse: learns where to look. Each picture is 5 x 5 patches of clutter, one of which shows a shape; the
// model sees one patch a picture, and is told the shape, never the place.
#include "train.hpp"

#include "../command_line.hpp"

namespace {

/// A picture, the patch that the model looked at between brackets.
void print_picture(const glimpse::pictures& x, glimpse::Index picked) {
  using glimpse::side;
  for (glimpse::Index row = 0; row < side * side; ++row) {
    if (row > 0 && row % side == 0) std::printf("\n");
    for (glimpse::Index p = row / side * side; p < row / side * side + side; ++p) {
      std::printf("%c", p == picked ? '[' : ' ');
      for (glimpse::Index c = 0; c < side; ++c)
        std::printf("%c", x.patches(p, row % side * side + c) != 0 ? '#' : '.');
      std::printf("%c", p == picked ? ']' : ' ');
    }
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Learns by REINFORCE where to look in small pictures.");
  glimpse::training options;
  app.add_option("--steps", options.steps, "Steps of training")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--batch", options.batch, "Pictures a step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--rate", options.rate, "Of learning")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--curiosity", options.curiosity, "Of the entropy of looks, at first")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of pictures and looks")->capture_default_str();
  return examples::run_program("glimpse", app, argc, argv, [&] {
    const auto model = glimpse::train(options, [](glimpse::Index step, const glimpse::score& now) {
      if ((step + 1) % 100 == 0)
        std::printf("step %4td   loss %.3f   right %5.1f %%   looked at the shape %5.1f %%\n", step + 1,
                    now.loss, 100 * now.right, 100 * now.found);
    });
    const auto end = glimpse::test(model, 2000, options.seed);
    std::printf("2000 new pictures, at the likeliest patch: %.1f %% right, %.1f %% looked at the shape\n\n",
                100 * end.right, 100 * end.found);
    const auto x = glimpse::draw(1, transformer::random_key(options.seed, 0x7e57));
    print_picture(x, glimpse::look_at(model, x, fovea::argmax{}).seen.picks(0, 0, 0, 0));
    return 0;
  });
}
