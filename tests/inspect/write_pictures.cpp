// write_pictures FOLDER: pictures of every kind, with labels that would break a careless writer.
#include <fovea/inspect.hpp>

#include <fstream>

int main(int, char** arguments) {
  const std::string folder = arguments[1];
  const std::vector<std::string> labels{"[CLS]", "<b>", "\"&\"", "]]>", "</script>", "\x01\xff", "猫😀", ""};
  const fovea::index_type tokens = static_cast<fovea::index_type>(labels.size());
  std::vector<fovea::tensor<float>> layers(2, fovea::tensor<float>(1, 3, tokens, tokens));
  for (auto& layer : layers)
    for (fovea::index_type i = 0; i < layer.size(); ++i) layer.data()[i] = static_cast<float>(i % 11) / 50;
  layers[0](0, 0, 0, 0) = std::numeric_limits<float>::quiet_NaN();
  const auto maps = fovea::maps_of(layers, "<title> & \"more\" ]]>", labels);
  const fovea::index_type keys = 300;  // 24 heads of them: wider than any window
  const fovea::attention_maps many(
      std::string(150, 'x') + " a title of several lines", std::vector<std::string>(4, "query"),
      std::vector<std::string>(keys, "key"), fovea::tensor<float>(2, 24, 4, keys));
  std::ofstream one(folder + "/one.svg"), grid(folder + "/grid.svg"), page(folder + "/page.html"),
      wide(folder + "/wide.html");
  fovea::write_svg(one, maps.only(0, 0));
  fovea::write_svg(grid, maps);
  fovea::write_page(page, maps);
  fovea::write_page(wide, many);
  return one.flush() && grid.flush() && page.flush() && wide.flush() ? 0 : 1;
}
