// What the files of a sentence-transformers folder say besides the encoder's sizes and weights: modules.json
// (what follows the encoder), the pooling's config.json, sentence_bert_config.json, those of the tokenizer.
// What would change the vectors is done or refused.
#pragma once

#include "bert.hpp"
#include "wordpiece.hpp"

namespace embedding {

struct model_folder {
  std::filesystem::path encoder;  // where its files lie
  std::size_t most_tokens;        // of a sentence
  embedding::pooling pooling = pooling::mean;
  bool normalise = true;
  wordpiece_options tokenizer;
  bert_config config;

  explicit model_folder(const std::filesystem::path& folder) : model_folder(folder, modules_of(folder)) {}

 private:
  /// Folders without modules.json: the encoder, a mean unless 1_Pooling says otherwise, length 1.
  struct modules {
    std::filesystem::path encoder, pooling;
    bool normalise = true;
  };

  model_folder(const std::filesystem::path& folder, const modules& steps)
      : encoder(steps.encoder), normalise(steps.normalise), config(steps.encoder / "config.json") {
    const settings sentences(encoder / "sentence_bert_config.json");
    most_tokens = static_cast<std::size_t>(sentences.integer("max_seq_length", 2, config.positions));
    sentences.expect("do_lower_case", false);
    const auto whole = settings::if_any(folder / "config_sentence_transformers.json");
    if (whole.has("default_prompt_name"))
      whole.refuse("default_prompt_name", "no prompt is put before sentences");
    whole.expect("similarity_fn_name", {"cosine"});
    read_pooling(settings::if_any(steps.pooling / "config.json"));
    read_tokenizer(settings::if_any(encoder / "tokenizer_config.json"));
    check_pieces(settings::if_any(encoder / "special_tokens_map.json"));
    check_rules(settings::if_any(encoder / "tokenizer.json"));
  }

  static modules modules_of(const std::filesystem::path& folder) {
    modules found{folder, folder / "1_Pooling"};
    const auto path = folder / "modules.json";
    if (!std::filesystem::exists(path)) return found;
    std::ifstream stream(path);
    const auto list = nlohmann::json::parse(stream, nullptr, false);
    if (!list.is_array()) throw input_error(path.string() + " is no JSON list");
    found.normalise = false;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto text = [&](const char* key) {
        if (!list[i].is_object() || !list[i].contains(key) || !list[i][key].is_string())
          throw input_error(path.string() + ": module " + std::to_string(i) + " has no text " + key);
        return list[i][key].get<std::string>();
      };
      const std::string type = text("type"), kind = type.substr(type.rfind('.') + 1);
      if (i == 0 && kind == "Transformer")
        found.encoder = folder / text("path");
      else if (i == 1 && kind == "Pooling")
        found.pooling = folder / text("path");
      else if (i == 2 && kind == "Normalize")
        found.normalise = true;
      else
        throw input_error(path.string() + ": module " + std::to_string(i) + " is " + type +
                          ", done are Transformer, Pooling, and Normalize or nothing");
    }
    if (list.size() < 2) throw input_error(path.string() + " has no Transformer and Pooling");
    return found;
  }

  void read_pooling(const settings& file) {
    const std::pair<const char*, embedding::pooling> modes[] = {
        {"pooling_mode_mean_tokens", pooling::mean},
        {"pooling_mode_cls_token", pooling::first},
        {"pooling_mode_max_tokens", pooling::greatest},
        {"pooling_mode_mean_sqrt_len_tokens", pooling::mean_sqrt}};
    if (file.has("word_embedding_dimension"))
      if (file.integer("word_embedding_dimension", 1, 1 << 30) != config.hidden)
        file.refuse("word_embedding_dimension",
                    "but config.json's hidden_size " + std::to_string(config.hidden));
    file.expect("include_prompt", true);
    int wanted = file.json().contains("pooling_mode_mean_tokens") ? 0 : 1;  // it is where nothing is said
    for (const auto& [key, value] : file.json().items()) {
      if (!key.starts_with("pooling_mode") || value == false) continue;
      const auto mode = std::ranges::find(modes, key, [](const auto& m) { return std::string(m.first); });
      if (mode == std::end(modes) || value != true)
        file.refuse(key, "done are the mean, the first token, the maximum and mean_sqrt_len");
      if (++wanted > 1) file.refuse(key, "and so is another mode; only one is done");
      pooling = mode->second;
    }
    if (wanted == 0) file.refuse("pooling_mode_mean_tokens", "and so is every other mode");
  }

  void read_tokenizer(const settings& file) {
    file.expect("tokenizer_class", {"BertTokenizer", "BertTokenizerFast"});
    file.expect("do_basic_tokenize", true);
    file.expect("truncation_side", {"right"});
    file.expect_empty("never_split");
    check_pieces(file);
    if (file.has("added_tokens_decoder"))
      for (const auto& [id, token] : file.json()["added_tokens_decoder"].items())
        if (!is_special(token.is_object() ? token.value("content", nlohmann::json()) : token))
          file.refuse("added_tokens_decoder", "done are [UNK], [SEP], [PAD], [CLS], [MASK] without more");
    tokenizer.lower_case = file.flag("do_lower_case", true);
    tokenizer.strip_accents = file.flag("strip_accents", tokenizer.lower_case);
    tokenizer.split_cjk = file.flag("tokenize_chinese_chars", true);
  }

  /// tokenizer.json says the whole once more; where tokenizer_config.json or vocab.txt differ, they count.
  static void check_rules(const settings& file) {
    const settings model = file.part("model"), normalizer = file.part("normalizer");
    model.expect("type", {"WordPiece"});
    model.expect("continuing_subword_prefix", {"##"});
    if (model.has("max_input_chars_per_word")) model.integer("max_input_chars_per_word", 100, 100);
    normalizer.expect("type", {"BertNormalizer"});
    normalizer.expect("clean_text", true);
    file.part("pre_tokenizer").expect("type", {"BertPreTokenizer"});
  }

  static constexpr std::pair<const char*, const char*> pieces[] = {{"unk_token", "[UNK]"},
                                                                   {"sep_token", "[SEP]"},
                                                                   {"pad_token", "[PAD]"},
                                                                   {"cls_token", "[CLS]"},
                                                                   {"mask_token", "[MASK]"}};
  static bool is_special(const nlohmann::json& text) {
    return std::ranges::any_of(pieces, [&](const auto& p) { return text == p.second; });
  }
  static void check_pieces(const settings& file) {
    for (const auto& [key, piece] : pieces) {
      if (!file.has(key)) continue;
      const auto& value = file.json()[key];
      if ((value.is_object() ? value.value("content", nlohmann::json()) : value) != piece)
        file.refuse(key, std::string("expected \"") + piece + '"');
    }
    file.expect_empty("additional_special_tokens");
  }
};

}  // namespace embedding
