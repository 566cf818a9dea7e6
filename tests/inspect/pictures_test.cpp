// Pictures and pages: what stands in them, whatever the labels are. That they are well-formed is checked by a
// parser in well_formed.py, on the files that write_pictures.cpp writes.
#include <fovea/inspect.hpp>

#include <gtest/gtest.h>

#include <locale>
#include <sstream>

namespace {

using fovea::index_type;
using fovea::tensor;
namespace inspect = fovea::inspect;

fovea::attention_maps diagonal_maps(index_type layers, index_type heads, index_type tokens,
                                    std::vector<std::string> labels) {
  std::vector<tensor<float>> all(static_cast<std::size_t>(layers), tensor<float>(1, heads, tokens, tokens));
  for (auto& layer : all)
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < tokens; ++i) layer(0, h, i, i) = 1;
  return fovea::maps_of(all, "a title", std::move(labels));
}

std::string svg_of(const fovea::attention_maps& maps) {
  std::ostringstream out;
  fovea::write_svg(out, maps);
  return out.str();
}

std::string page_of(const fovea::attention_maps& maps) {
  std::ostringstream out;
  fovea::write_page(out, maps);
  return out.str();
}

index_type count(const std::string& text, const std::string& part) {
  index_type n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(text, is_escaped_and_repaired) {
  EXPECT_EQ(inspect::xml_escaped("<a b='\"&\"'>"), "&lt;a b=&#39;&quot;&amp;&quot;&#39;&gt;");
  EXPECT_EQ(inspect::json_quoted("</script>\"\\\n"), "\"\\u003c/script\\u003e\\u0022\\u005c\\u000a\"");
  EXPECT_EQ(inspect::xml_escaped("食べ物 é 😀"), "食べ物 é 😀");
  const std::string bad = "\xef\xbf\xbd";  // U+FFFD
  for (const char* text : {"\xff", "\x80", "\xc3", "\x01", "\xc0", "\xf8"})
    EXPECT_EQ(inspect::xml_escaped(text), bad) << text;
  EXPECT_EQ(inspect::xml_escaped("a\xe2\x82z"), "a" + bad + bad + "z");  // cut off
  EXPECT_EQ(inspect::xml_escaped("\xed\xa0\x80"), bad + bad + bad);      // half of a pair
  EXPECT_EQ(inspect::xml_escaped("\xe0\x80\xaf"), bad + bad + bad);      // not the shortest form
  EXPECT_EQ(inspect::shortened("日本語の文章", 4), "日本語…");
  EXPECT_EQ(inspect::shortened("abcd", 4), "abcd");
  EXPECT_EQ(inspect::number(1.25), "1.25");
  EXPECT_EQ(inspect::number(-0.001), "0");
  EXPECT_EQ(inspect::number(1200), "1200");
}

TEST(text, base64_of_the_standard) {  // RFC 4648, section 10
  const std::pair<const char*, const char*> known[] = {
      {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, digits] : known) EXPECT_EQ(inspect::base64(bytes), digits);
}

TEST(colours, grow_darker) {
  const auto light = [](index_type level) {
    const auto c = inspect::colour_of_level(level);
    return 0.2126 * c.red + 0.7152 * c.green + 0.0722 * c.blue;
  };
  for (index_type level = 1; level < inspect::colour_levels; ++level)
    EXPECT_LT(light(level), light(level - 1)) << level;
  EXPECT_GT(light(0), 245);
  EXPECT_LT(light(inspect::colour_levels - 1), 40);
  EXPECT_EQ(inspect::level_of(0), 0);
  EXPECT_EQ(inspect::level_of(1), inspect::colour_levels - 1);
  EXPECT_EQ(inspect::level_of(1.0000001), inspect::colour_levels - 1);
  EXPECT_EQ(inspect::colour_of(inspect::level_of(std::nan(""))), inspect::colour_of_nan);
  EXPECT_EQ(inspect::hex({0, 255, 16}), "#00ff10");
}

TEST(svg, of_one_head_has_cells_tokens_and_numbers) {
  const auto svg = svg_of(diagonal_maps(1, 1, 3, {"<s>", "b&b", "猫"}));
  EXPECT_EQ(count(svg, "&lt;s&gt;"), 2);  // as a row and as a column
  EXPECT_EQ(count(svg, "b&amp;b"), 2);
  EXPECT_EQ(count(svg, "猫"), 2);
  EXPECT_EQ(count(svg, "d=\"M0 0h1v1h-1zM1 1h1v1h-1zM2 2h1v1h-1z\""), 1);
  EXPECT_EQ(count(svg, ">1</text>"), 3 + 1);  // three cells and the end of the legend
}

TEST(svg, of_a_grid_has_a_map_a_head_and_no_numbers_in_cells) {
  const auto svg = svg_of(diagonal_maps(2, 3, 100, {}));
  EXPECT_EQ(count(svg, "M0 0h1v1h-1z"), 6);
  EXPECT_EQ(count(svg, ">layer 1</text>"), 1);
  EXPECT_EQ(count(svg, ">head 2</text>"), 1);
  EXPECT_EQ(count(svg, ">99</text>"), 0);  // cells of a few pixels have no labels
  auto one = diagonal_maps(2, 3, 4, {}).only(1, 2);
  EXPECT_NE(svg_of(one).find("layer 1, head 2"), std::string::npos);
}

TEST(svg, joins_cells_of_one_colour) {
  auto maps = diagonal_maps(1, 1, 64, {});
  for (index_type i = 0; i < maps.weights.size(); ++i) maps.weights.data()[i] = 1.f / 64;
  EXPECT_EQ(count(svg_of(maps), "h64v1h-64z"), 64);
}

TEST(pictures, do_not_depend_on_the_locale) {
  struct grouped : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\1"; }
    char do_decimal_point() const override { return ','; }
  };
  const auto maps = diagonal_maps(3, 4, 9, {});
  std::ostringstream out;
  out.imbue(std::locale(std::locale(), new grouped));
  fovea::write_svg(out, maps);
  EXPECT_EQ(out.str(), svg_of(maps));
}

TEST(page, holds_all_probabilities) {
  const auto maps = diagonal_maps(2, 2, 3, {"[CLS]", "</script>", "c"});
  const auto page = page_of(maps);
  EXPECT_EQ(count(page, "</script>"), 2);  // the data and the script: no label ends either
  EXPECT_EQ(count(page, "\\u003c/script\\u003e"), 2);
  EXPECT_EQ(count(page, "http"), 0);  // nothing from elsewhere
  std::string one;                    // 65534 is fe ff, of a diagonal of three
  for (index_type i = 0; i < 9; ++i) one += i % 4 == 0 ? std::string("\xfe\xff") : std::string(2, '\0');
  EXPECT_NE(page.find("\"weights\":\"" + inspect::base64(one + one + one + one) + "\""), std::string::npos);
  EXPECT_NE(page.find("\"layers\":2,\"heads\":2,\"rows\":3,\"columns\":3"), std::string::npos);
}

TEST(raster, has_a_square_a_cell) {
  const auto maps = diagonal_maps(2, 3, 4, {});
  const auto image = fovea::draw(maps, 5, 2);
  EXPECT_EQ(image.width, 3 * (4 * 5 + 2) + 2);
  EXPECT_EQ(image.height, 2 * (4 * 5 + 2) + 2);
  ASSERT_EQ(static_cast<index_type>(image.pixels.size()), 3 * image.width * image.height);
  const auto at = [&](index_type x, index_type y) {
    const auto* p = image.pixels.data() + 3 * (y * image.width + x);
    return inspect::colour{p[0], p[1], p[2]};
  };
  const auto dark = inspect::colour_of(inspect::colour_levels - 1), light = inspect::colour_of(0);
  EXPECT_EQ(at(0, 0), (inspect::colour{255, 255, 255}));
  EXPECT_EQ(at(2, 2), dark);
  EXPECT_EQ(at(6, 6), dark);
  EXPECT_EQ(at(7, 6), light);
  EXPECT_EQ(at(7, 7), dark);
  EXPECT_EQ(at(2 + 2 * 22 + 19, 2 + 22 + 19), dark);  // the last cell of the last map
  EXPECT_EQ(at(2 + 2 * 22 + 20, 2 + 22 + 20), (inspect::colour{255, 255, 255}));
}

/// Sizes whose product wraps to a small number make no picture that is written beyond its memory.
TEST(raster, of_sizes_that_no_index_counts) {
  constexpr index_type large = index_type(1) << 61, most = std::numeric_limits<index_type>::max();
  const fovea::attention_maps maps("t", {}, {}, fovea::tensor<float>(1, 1, 8, 8));
  for (const index_type size : {large, large + 1, most}) {
    EXPECT_THROW(fovea::draw(maps, size), std::length_error);
    EXPECT_THROW(fovea::draw(maps, 4, size), std::length_error);
    EXPECT_THROW(fovea::raster(size, 8), std::length_error);
  }
}

TEST(maps, mistakes_are_named) {
  const auto message = [](const auto& call) {
    try {
      call();
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const auto says = [&](const auto& call, const char* part) {
    const std::string text = message(call);
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  using layers = std::vector<tensor<float>>;
  const auto maps = diagonal_maps(1, 2, 3, {});
  says([] { diagonal_maps(1, 1, 3, {"a", "b"}); }, "2 labels for 3 tokens");
  says([] { fovea::maps_of(layers{{1, 2, 3, 3}, {1, 2, 4, 4}}, "", {}); }, "4 queries but layer 0 has 3");
  says([] { fovea::maps_of(layers{{1, 2, 3, 3}, {1, 1, 3, 3}}, "", {}); }, "1 heads but layer 0 has 2");
  says([] { fovea::maps_of(layers{{2, 2, 3, 3}}, "", {}, 2); }, "sequence 2 is not one of 2");
  says([&] { maps.only(1, 0); }, "layer 1 is not one of 1");
  says([&] { maps.only(0, 2); }, "head 2 is not one of 2");
  says([&] { fovea::draw(maps, 0); }, "cell is 0");
  says([&] { fovea::raster(3, -1); }, "3 x -1");
  says([&] { page_of(fovea::attention_maps()); }, "nothing to show");
}

}  // namespace
