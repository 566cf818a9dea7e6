// The program sentence_embedding as a user runs it: with the real model where FOVEA_MINILM_DIR names its
// folder, and with bad input.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

const std::string program = SENTENCE_EMBEDDING;

std::string in_temp(const std::string& name) {
  return (std::filesystem::path(testing::TempDir()) / name).string();
}

struct outcome {
  int status;
  std::string errors;
};

// Runs the program with `input` on standard input.
outcome run(const std::string& arguments, const std::string& input) {
  std::ofstream(in_temp("input.txt"), std::ios::binary) << input;
  const std::string command = "'" + program + "' " + arguments + " < '" + in_temp("input.txt") + "' > '" +
                              in_temp("output.txt") + "' 2> '" + in_temp("errors.txt") + "'";
  const int status = std::system(command.c_str());
  std::stringstream errors;
  errors << std::ifstream(in_temp("errors.txt")).rdbuf();
  return {status / 256, errors.str()};
}

std::string model_folder() {
  const char* folder = std::getenv("FOVEA_MINILM_DIR");
  return folder ? folder : "";
}

std::vector<float> embeddings(const std::string& options, const std::string& input) {
  const auto [status, errors] =
      run("'" + model_folder() + "' --out '" + in_temp("rows.bin") + "' " + options, input);
  EXPECT_EQ(status, 0) << errors;
  std::ifstream stream(in_temp("rows.bin"), std::ios::binary);
  std::vector<float> values(std::filesystem::file_size(in_temp("rows.bin")) / sizeof(float));
  stream.read(reinterpret_cast<char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

// First eight numbers of the embedding by PyTorch 2.13 and transformers of the same weights (mean pooling,
// normalised).
struct known {
  std::string sentence;
  std::vector<float> first;
};

std::vector<known> known_sentences() {
  std::string long_text;
  for (int i = 0; i < 120; ++i)
    long_text += "attention is all you need ";  // 600 words: truncated to 256 tokens
  return {
      {"A man is eating food.",
       {0.0332416f, 0.0044060f, -0.0062770f, 0.0483787f, -0.1387023f, -0.0336174f, 0.1011283f, -0.0543850f}},
      {"Café crème brûlée à l'été",
       {0.0174378f, -0.0570300f, 0.0334466f, -0.0258991f, -0.0325246f, 0.0635424f, 0.0829044f, 0.0348720f}},
      {"我喜欢吃苹果，也喜欢喝茶。",
       {-0.0022571f, 0.0821933f, 0.0217697f, 0.0229130f, 0.0257187f, 0.0135274f, 0.1017088f, 0.0476447f}},
      {"I like emoji 😀👍🏽",
       {-0.0614258f, -0.0225881f, 0.0666023f, -0.0192375f, -0.0008231f, -0.1152426f, 0.0975901f,
        -0.0001030f}},
      {"",
       {-0.1188384f, 0.0482988f, -0.0025482f, -0.0110112f, 0.0519507f, 0.0102917f, 0.1154333f, 0.0007007f}},
      {long_text,
       {0.0303160f, -0.0298175f, 0.0105836f, -0.0523581f, 0.0108425f, 0.0244601f, 0.0356117f, 0.0286727f}}};
}

TEST(SentenceEmbedding, AgreesWithPyTorchInBothKindsOfBatches) {
  if (model_folder().empty()) GTEST_SKIP() << "FOVEA_MINILM_DIR is not set";
  std::string input;
  for (const auto& k : known_sentences()) input += k.sentence + "\n";
  const auto ragged = embeddings("", input), padded = embeddings("--batching padded --threads 1", input);
  ASSERT_EQ(ragged.size(), 6u * 384u);
  ASSERT_EQ(padded.size(), ragged.size());
  for (std::size_t s = 0; s < 6; ++s)
    for (std::size_t i = 0; i < 8; ++i)
      EXPECT_NEAR(ragged[s * 384 + i], known_sentences()[s].first[i], 1e-6f) << s;
  for (std::size_t i = 0; i < ragged.size(); ++i) EXPECT_NEAR(ragged[i], padded[i], 1e-6f);
}

TEST(SentenceEmbedding, NoInputGivesNoRows) {
  if (model_folder().empty()) GTEST_SKIP() << "FOVEA_MINILM_DIR is not set";
  EXPECT_TRUE(embeddings("", "").empty());
}

TEST(SentenceEmbedding, NamesTheLineThatIsNoUtf8) {
  if (model_folder().empty()) GTEST_SKIP() << "FOVEA_MINILM_DIR is not set";
  const auto [status, errors] = run("'" + model_folder() + "'",
                                    "fine\nalso fine\nb\xff"
                                    "ad\n");
  EXPECT_EQ(status, 2);
  EXPECT_NE(errors.find("line 3"), std::string::npos) << errors;
}

TEST(SentenceEmbedding, WritesTheAttentionOfTheFirstSentence) {
  if (model_folder().empty()) GTEST_SKIP() << "FOVEA_MINILM_DIR is not set";
  const auto written = [](const std::string& name, const std::string& input) {
    const auto [status, errors] = run("'" + model_folder() + "' --attention '" + in_temp(name) + "'", input);
    EXPECT_EQ(status, 0) << errors;
    std::stringstream text;
    text << std::ifstream(in_temp(name), std::ios::binary).rdbuf();
    return text.str();
  };
  const std::string input = "A man <b>.\nAnother one.\n";
  const std::string page = written("attention.html", input);
  EXPECT_NE(page.find("<h1>A man &lt;b&gt;.</h1>"), std::string::npos);
  EXPECT_NE(page.find("\"layers\":6,\"heads\":12,\"rows\":8,\"columns\":8"), std::string::npos);
  EXPECT_NE(page.find(R"(["[CLS]","a","man","\u003c","b","\u003e",".","[SEP]"])"), std::string::npos);
  EXPECT_EQ(page.find("another"), std::string::npos);
  const std::string svg = written("attention.svg", input);
  EXPECT_NE(svg.find(">head 11</text>"), std::string::npos);
  EXPECT_NE(svg.find(">layer 5</text>"), std::string::npos);
  const std::string png = written("attention.png", input);
  EXPECT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
  // Cells of 16 pixels, 4 between maps: 12 * (8 * 16 + 4) + 4 across, most significant byte first.
  EXPECT_EQ(png.substr(16, 8), std::string("\0\0\x06\x34\0\0\x03\x1c", 8));

  const auto [status, errors] =
      run("'" + model_folder() + "' --attention '" + in_temp("none.html") + "'", "");
  EXPECT_EQ(status, 2);
  EXPECT_NE(errors.find("no sentence"), std::string::npos) << errors;
}

TEST(SentenceEmbedding, BadInputIsNamedAndExitsWithTwo) {
  for (const auto& [arguments, part] :
       {std::pair<std::string, const char*>{"/nonexistent/model", "/nonexistent/model/config.json"},
        {"", "MODEL_DIR"},
        {"/nonexistent/model --unknown", "--unknown"},
        {"x --attention out.gif", "out.gif ends in none of .html, .svg, .png"},
        {"x --threads 0", "threads"}}) {
    const auto [status, errors] = run(arguments, "");
    EXPECT_EQ(status, 2) << arguments;
    EXPECT_NE(errors.find(part), std::string::npos) << errors;
  }
  const auto folder = std::filesystem::path(in_temp("damaged"));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << "{\"hidden_size\": 384";
  const auto [status, errors] = run("'" + folder.string() + "'", "");
  EXPECT_EQ(status, 2);
  EXPECT_NE(errors.find("config.json"), std::string::npos) << errors;
}

}  // namespace
