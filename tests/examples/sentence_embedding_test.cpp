// The program sentence_embedding as a user runs it: with a small model made here, with the real one where
// FOVEA_MINILM_DIR names its folder, and with bad input.
#include "../support/worse.hpp"
#include "small_bert.hpp"

#include <fovea/element.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

const std::string program = SENTENCE_EMBEDDING;

/// Each test has files of its own, as tests run side by side.
std::string in_temp(const std::string& name) {
  const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
  return (std::filesystem::path(testing::TempDir()) / ("fovea_embedding_" + test + "_" + name)).string();
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

std::vector<float> embeddings_by(const std::string& folder, const std::string& options,
                                 const std::string& input) {
  const auto [status, errors] = run("'" + folder + "' --out '" + in_temp("rows.bin") + "' " + options, input);
  EXPECT_EQ(status, 0) << errors;
  std::ifstream stream(in_temp("rows.bin"), std::ios::binary);
  std::vector<float> values(std::filesystem::file_size(in_temp("rows.bin")) / sizeof(float));
  stream.read(reinterpret_cast<char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}
std::vector<float> embeddings(const std::string& options, const std::string& input) {
  return embeddings_by(model_folder(), options, input);
}

/// By the small model, some of its files replaced ("": by none).
std::vector<float> by_small(const small_bert::files& changed, const std::string& input) {
  auto all = small_bert::folder();
  for (const auto& [name, text] : changed)
    if (text.empty())
      all.erase(name);
    else
      all[name] = text;
  return embeddings_by(small_bert::written(in_temp("model"), all), "--threads 1", input);
}
float distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float most = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    most = fovea_test::worse(most, std::abs(a[i] - b[i]));
  return most;
}

TEST(SentenceEmbedding, NumbersPiecesByTheirLines) {
  const std::string input = "The cat sat on the mats.\nCats.\n";
  const auto base = by_small({}, input);
  ASSERT_EQ(base.size(), 16u);
  auto pieces = small_bert::pieces;
  pieces[19] = "", pieces[4] = "";
  EXPECT_EQ(by_small({{"vocab.txt", small_bert::lines_of(pieces)}}, input), base);
  pieces = small_bert::pieces;
  pieces[4] = "unused";  // again in line 19
  EXPECT_EQ(by_small({{"vocab.txt", small_bert::lines_of(pieces)}}, input), base);
  std::string windows;
  for (const auto& piece : small_bert::pieces) windows += piece + "\r\n";
  EXPECT_EQ(by_small({{"vocab.txt", windows}}, input), base);
  pieces[4] = "a\u2028b\v\fc\u0085d";  // one line
  EXPECT_EQ(by_small({{"vocab.txt", small_bert::lines_of(pieces)}}, input), base);
  std::swap(pieces[5], pieces[6]);
  EXPECT_GT(distance(by_small({{"vocab.txt", small_bert::lines_of(pieces)}}, input), base), 1e-3f);
  EXPECT_EQ(by_small({}, "The\u2028cat\u2029sat\n"), by_small({}, "The cat sat\n"));
}

TEST(SentenceEmbedding, DoesWhatTheTokenizersSettingsSay) {
  const auto set = [](const std::string& settings) {
    return small_bert::files{{"tokenizer_config.json", "{" + settings + "}"}};
  };
  const std::string cased = "Cat café\n";
  const auto base = by_small({}, cased), cat = by_small({}, "cat cafe\n");
  EXPECT_EQ(base, cat);
  EXPECT_EQ(by_small({{"tokenizer_config.json", ""}}, cased), base);
  const auto kept = by_small(set(R"("do_lower_case":false)"), cased);  // Cat caf ##é
  EXPECT_GT(distance(kept, base), 1e-3f);
  EXPECT_EQ(by_small(set(R"("do_lower_case":false,"strip_accents":false)"), cased), kept);
  EXPECT_EQ(by_small(set(R"("do_lower_case":false,"strip_accents":true)"), cased),
            by_small(set(R"("do_lower_case":false)"), "Cat cafe\n"));
  EXPECT_EQ(by_small(set(R"("strip_accents":false)"), cased),
            by_small(set(R"("do_lower_case":false)"), "cat café\n"));
  const auto split = by_small({}, "我喜\n"),
             whole = by_small(set(R"("tokenize_chinese_chars":false)"), "我喜\n");
  EXPECT_EQ(split, by_small({}, "我 喜\n"));
  EXPECT_GT(distance(split, whole), 1e-3f);
  EXPECT_EQ(by_small({}, "the [MASK]cat[SEP]\n"), by_small({}, "the[MASK] cat [SEP]\n"));
  EXPECT_GT(distance(by_small({}, "the [MASK]\n"), by_small({}, "the [mask]\n")), 1e-3f);
}

TEST(SentenceEmbedding, PoolsAsTheFolderSays) {
  // [CLS] [SEP]: what each way of pooling makes of two vectors.
  const auto pooled = [](const std::string& mode) {
    return by_small(
        {{"modules.json", R"([{"path":"","type":"a.Transformer"},{"path":"p","type":"a.Pooling"}])"},
         {"p/config.json", R"({"pooling_mode_mean_tokens":false,")" + mode + "\":true}"}},
        "\n");
  };
  const auto mean = by_small(
      {{"modules.json", R"([{"path":"","type":"a.Transformer"},{"path":"p","type":"a.Pooling"}])"}}, "\n");
  const auto first = pooled("pooling_mode_cls_token"), most = pooled("pooling_mode_max_tokens"),
             root = pooled("pooling_mode_mean_sqrt_len_tokens"), normal = by_small({}, "\n");
  ASSERT_EQ(first.size(), 8u);
  float length = 0, apart = 0;
  for (const float x : mean) length += x * x;
  for (std::size_t i = 0; i < 8; ++i) {
    const float second = 2 * mean[i] - first[i];
    apart = std::max(apart, std::abs(second - first[i]));
    EXPECT_NEAR(most[i], std::max(first[i], second), 1e-5f);
    EXPECT_NEAR(root[i], mean[i] * std::sqrt(2.f), 1e-5f);
    EXPECT_NEAR(normal[i], mean[i] / std::sqrt(length), 1e-6f);
  }
  EXPECT_GT(apart, 0.1f);
}

TEST(SentenceEmbedding, ReadsWeightsOf16Bits) {
  const std::string input = "The cat sat on the mats.\n";
  const auto base = by_small({}, input);
  const auto half = [](float x) { return fovea::fp16(x).bits; };
  const auto brain = [](float x) { return fovea::bf16(x).bits; };
  EXPECT_EQ(
      by_small({{"model.safetensors", small_bert::safetensors(small_bert::weights(), "F16", half)}}, input),
      base);
  EXPECT_EQ(
      by_small({{"model.safetensors", small_bert::safetensors(small_bert::weights(), "BF16", brain)}}, input),
      base);
}

TEST(SentenceEmbedding, RefusesSettingsThatItDoesNotDo) {
  const auto config = [](const std::string& more) {
    std::string text = small_bert::folder()["config.json"];
    return text.substr(0, text.size() - 1) + "," + more + "}";  // of two, the last one
  };
  struct {
    const char* file;
    std::string text;
    const char* why;
  } const cases[] = {
      {"config.json", config(R"("model_type":"roberta")"),
       R"(config.json: model_type is "roberta", expected "bert")"},
      {"config.json", config(R"("hidden_act":"relu")"),
       R"(config.json: hidden_act is "relu", expected "gelu")"},
      {"config.json", config(R"("hidden_act":3)"), R"(config.json: hidden_act is 3, expected "gelu")"},
      {"config.json", config(R"("position_embedding_type":"relative_key")"),
       R"(position_embedding_type is "relative_key", expected "absolute")"},
      {"config.json", config(R"("is_decoder":true)"), "is_decoder is true, only false is done"},
      {"config.json", config(R"("pruned_heads":{"0":[1]})"),
       R"(pruned_heads is {"0":[1]}, which is not done)"},
      {"config.json", config(R"("layer_norm_eps":-1)"), "layer_norm_eps is -1, below 0"},
      {"config.json", config(R"("layer_norm_eps":"small")"), R"(layer_norm_eps is "small", not a number)"},
      {"config.json", config(R"("hidden_size":8.5)"), "hidden_size is 8.5, not an integer"},
      {"config.json", config(R"("hidden_size":18446744073709551615)"),
       "hidden_size is 18446744073709551615, not an integer"},
      {"config.json", config(R"("num_hidden_layers":0)"), "num_hidden_layers is 0, not within 1 and"},
      {"sentence_bert_config.json", R"({"max_seq_length":17})", "max_seq_length is 17, not within 2 and 16"},
      {"sentence_bert_config.json", R"({"max_seq_length":12,"do_lower_case":true})",
       "sentence_bert_config.json: do_lower_case is true, only false is done"},
      {"tokenizer_config.json", R"({"tokenizer_class":"MPNetTokenizer"})",
       R"(tokenizer_class is "MPNetTokenizer", expected "BertTokenizer")"},
      {"tokenizer_config.json", R"({"do_basic_tokenize":false})",
       "do_basic_tokenize is false, only true is done"},
      {"tokenizer_config.json", R"({"never_split":["x"]})", R"(never_split is ["x"], which is not done)"},
      {"tokenizer_config.json", R"({"truncation_side":"left"})",
       R"(truncation_side is "left", expected "right")"},
      {"tokenizer_config.json", R"({"cls_token":"<s>"})", R"(cls_token is "<s>", expected "[CLS]")"},
      {"tokenizer_config.json", R"({"cls_token":{"content":"<s>"}})", R"(expected "[CLS]")"},
      {"tokenizer_config.json", R"({"do_lower_case":"no"})",
       R"(do_lower_case is "no", neither true nor false)"},
      {"tokenizer_config.json", R"({"added_tokens_decoder":{"5":{"content":"<x>"}}})",
       "added_tokens_decoder is"},
      {"tokenizer.json", R"({"model":{"type":"BPE"}})",
       R"(tokenizer.json: model: type is "BPE", expected "WordPiece")"},
      {"tokenizer.json", R"({"model":{"max_input_chars_per_word":50}})",
       "max_input_chars_per_word is 50, not within 100 and 100"},
      {"tokenizer.json", R"({"normalizer":{"type":"Lowercase"}})",
       R"(normalizer: type is "Lowercase", expected "BertNormalizer")"},
      {"tokenizer.json", R"({"normalizer":{"clean_text":false}})", "clean_text is false, only true is done"},
      {"special_tokens_map.json", R"({"sep_token":"</s>"})",
       R"(special_tokens_map.json: sep_token is "</s>", expected "[SEP]")"},
      {"modules.json",
       R"([{"path":"","type":"a.Transformer"},{"path":"","type":"a.Pooling"},{"path":"","type":"a.Dense"}])",
       "modules.json: module 2 is a.Dense"},
      {"modules.json", R"([{"path":"","type":"a.Transformer"}])",
       "modules.json has no Transformer and Pooling"},
      {"modules.json", "{}", "modules.json is no JSON list"},
      {"1_Pooling/config.json", R"({"pooling_mode_mean_tokens":false,"pooling_mode_lasttoken":true})",
       "pooling_mode_lasttoken is true, done are"},
      {"1_Pooling/config.json", R"({"pooling_mode_mean_tokens":true,"pooling_mode_max_tokens":true})",
       "is true, and so is another mode"},
      {"1_Pooling/config.json", R"({"pooling_mode_max_tokens":true})",
       "pooling_mode_max_tokens is true, and so is another mode"},
      {"1_Pooling/config.json", R"({"pooling_mode_mean_tokens":false})",
       "pooling_mode_mean_tokens is false, and so is every other mode"},
      {"1_Pooling/config.json", R"({"word_embedding_dimension":9})",
       "word_embedding_dimension is 9, but config.json's hidden_size 8"},
      {"config_sentence_transformers.json", R"({"default_prompt_name":"query"})",
       R"(default_prompt_name is "query")"},
      {"config_sentence_transformers.json", R"({"similarity_fn_name":"euclidean"})",
       R"(similarity_fn_name is "euclidean", expected "cosine")"},
      {"vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\xff\n", "vocab.txt, line 4: invalid UTF-8 at byte 2"},
      {"vocab.txt", small_bert::lines_of(small_bert::pieces) + "\n\n\n\n",
       "vocab.txt has 25 lines, config.json says 24"}};
  for (const auto& [file, text, why] : cases) {
    auto all = small_bert::folder();
    all[file] = text;
    const auto [status, errors] = run("'" + small_bert::written(in_temp("model"), all) + "'", "the cat\n");
    EXPECT_EQ(status, 2) << why;
    EXPECT_TRUE(errors.starts_with("sentence_embedding: ")) << errors;
    EXPECT_NE(errors.find(why), std::string::npos) << why << "\n  " << errors;
  }
  auto all = small_bert::folder();
  auto weights = small_bert::weights();
  weights["encoder.layer.1.output.dense.bias"] = weights["encoder.layer.0.output.dense.bias"];
  all["model.safetensors"] = small_bert::safetensors(weights);
  const auto [status, errors] = run("'" + small_bert::written(in_temp("model"), all) + "'", "");
  EXPECT_EQ(status, 2);
  EXPECT_NE(
      errors.find(
          "has a tensor encoder.layer.1.output.dense.bias, which an encoder of 1 layers has no use for"),
      std::string::npos)
      << errors;
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
    EXPECT_TRUE(errors.starts_with("sentence_embedding: ")) << errors;
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
