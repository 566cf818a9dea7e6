// patches: a vision Transformer learns to name the shape in a picture, and shows where its class token looked.
#include "overlay.hpp"
#include "train.hpp"

#include "../command_line.hpp"
#include "../png.hpp"

int main(int argc, char** argv) {
  CLI::App app("Trains a small vision Transformer on pictures that it draws, then looks at one.");
  patches::training options;
  std::string picture, overlay = "patches.png", drawing;
  app.add_option("picture", picture, "A PNG of 64 x 64 pixels to look at; otherwise one is drawn")
      ->check(CLI::ExistingFile);
  app.add_option("--overlay", overlay, "The PNG to write: the picture, and where the class token looked")
      ->capture_default_str();
  app.add_option("--draw", drawing, "Writes a new picture to this PNG, and does nothing else");
  app.add_option("--steps", options.steps, "Steps of training")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--batch", options.batch, "Pictures a step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--rate", options.rate, "Of learning, at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of the pictures")->capture_default_str();
  return examples::run_program("patches", app, argc, argv, [&] {
    patches::scene shown = patches::draw_scene(transformer::random_key(options.seed, 0xd4a3));
    if (!drawing.empty()) {
      examples::write_png(drawing, shown.picture);
      std::printf("%s shows a %s\n", drawing.c_str(), patches::shapes[std::size_t(shown.shape)].data());
      return 0;
    }
    if (!picture.empty()) shown.picture = examples::read_png(picture);
    if (shown.picture.width != patches::side || shown.picture.height != patches::side)
      throw std::invalid_argument(picture + " has " + std::to_string(shown.picture.width) + " x " +
                                  std::to_string(shown.picture.height) + " pixels, not 64 x 64");
    const auto model = patches::train(options, [](patches::Index step, double loss) {
      if ((step + 1) % 100 == 0) std::printf("step %4td   loss %.3f\n", step + 1, loss), std::fflush(stdout);
    });
    const auto end = patches::test(model, 500, options.seed);
    std::printf(
        "500 new pictures: %.1f %% right; patches of the shape get %.1f times their share of attention\n",
        100 * end.right, end.attention);
    const auto seen = patches::look_at(model, shown);
    std::printf("a %s, with probability %.3f; %s shows where the class token looked\n",
                patches::shapes[std::size_t(seen.shape)].data(), seen.probability, overlay.c_str());
    examples::write_png(overlay, patches::overlay(shown.picture, seen.attention));
    return 0;
  });
}
