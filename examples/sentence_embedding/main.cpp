// sentence_embedding MODEL_DIR [--out FILE] [--attention FILE]: sentences on standard input, one a line, to
// vectors, and their cosines, which say how similar the sentences are. MODEL_DIR holds a BERT encoder
// as sentence-transformers keeps it (all-MiniLM-L6-v2): model.safetensors, config.json, vocab.txt,
// sentence_bert_config.json, and where they are there the files of model_folder.hpp.
#include "attention_file.hpp"
#include "model_folder.hpp"

#include "../command_line.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <iostream>
#include <numeric>

namespace {

using embedding::Matrix;

struct arguments {
  std::string model, out, attention, batching = "ragged";
  int threads = 2;
};

std::vector<std::string> read_lines(std::istream& stream) {
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

std::vector<std::vector<int>> tokenize(const std::vector<std::string>& lines,
                                       const embedding::wordpiece& split, std::size_t most) {
  std::vector<std::vector<int>> tokens;
  for (std::size_t i = 0; i < lines.size(); ++i) try {
      tokens.push_back(split(lines[i], most));
    } catch (const std::invalid_argument& e) {
      throw embedding::input_error("standard input, line " + std::to_string(i + 1) + ": " + e.what());
    }
  return tokens;
}

class progress {
 public:
  explicit progress(std::size_t total)
      : total_(total), shown_(isatty(STDERR_FILENO) ? total > 64 : total > 1000) {}
  void add(std::size_t count) {
    const std::size_t done = done_ += count;
    if (!shown_) return;
    const int cells = static_cast<int>(40 * done / total_);
    std::fprintf(stderr, "\r[%.*s%.*s] %zu / %zu%s", cells, "########################################",
                 40 - cells, "........................................", done, total_,
                 done == total_ ? "\n" : "");
  }

 private:
  std::size_t total_;
  bool shown_;
  std::atomic<std::size_t> done_{0};
};

/// Batches of sentences of similar length, about `budget` tokens each; they run side by side.
Matrix embed(const embedding::bert& model, const std::vector<std::vector<int>>& tokens,
             const arguments& wanted) {
  constexpr std::size_t budget = 2048;
  std::vector<std::size_t> order(tokens.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return tokens[a].size() > tokens[b].size(); });
  std::vector<std::size_t> starts{0};
  for (std::size_t i = 0, used = 0; i < order.size(); ++i) {
    if (used + tokens[order[i]].size() > budget) starts.push_back(i), used = 0;
    used += tokens[order[i]].size();
  }
  starts.push_back(order.size());

  Matrix all(static_cast<Eigen::Index>(tokens.size()), model.config().hidden);
  progress bar(tokens.size());
  const auto run_batch = [&](fovea::index_type batch, fovea::index_type) {
    const auto first = starts[static_cast<std::size_t>(batch)],
               last = starts[static_cast<std::size_t>(batch) + 1];
    std::vector<std::vector<int>> sentences;
    for (std::size_t i = first; i < last; ++i) sentences.push_back(tokens[order[i]]);
    const Matrix rows =
        wanted.batching == "padded" ? model.embed_padded(sentences) : model.embed_ragged(sentences);
    for (std::size_t i = first; i < last; ++i)
      all.row(static_cast<Eigen::Index>(order[i])) = rows.row(static_cast<Eigen::Index>(i - first));
    bar.add(last - first);
  };
  const fovea::threads pool(wanted.threads);
  if (!tokens.empty()) pool.for_each(static_cast<fovea::index_type>(starts.size()) - 1, run_batch);
  return all;
}

void print_similarities(const Matrix& embeddings) {
  constexpr Eigen::Index most = 20;
  const Eigen::Index n = std::min(embeddings.rows(), most);
  const Matrix units = embeddings.topRows(n).rowwise().normalized();
  const Matrix similarity = units * units.transpose();
  for (Eigen::Index i = 0; i < n; ++i) {
    for (Eigen::Index j = 0; j < n; ++j)
      std::printf("%s%7.4f", j == 0 ? "" : " ", static_cast<double>(similarity(i, j)));
    std::printf("\n");
  }
  if (embeddings.rows() > most) std::printf("(the first %td of %td sentences)\n", n, embeddings.rows());
}

void write(const std::string& path, const Matrix& embeddings) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(embeddings.data()),
               embeddings.size() * static_cast<std::streamsize>(sizeof(float)));
  if (!stream.flush()) throw embedding::input_error("cannot write " + path);
}

/// What the first sentence attends to in each layer and head.
void write_attention(const std::string& path, const embedding::bert& model, const embedding::wordpiece& split,
                     const std::vector<std::string>& lines, const std::vector<std::vector<int>>& tokens) {
  if (lines.empty()) throw embedding::input_error("standard input has no sentence, --attention needs one");
  std::vector<std::string> labels;
  for (const int id : tokens.front()) labels.push_back(split.piece(id));
  embedding::write_attention_file(
      path, fovea::maps_of(model.attention_of(tokens.front()), lines.front(), std::move(labels)));
}

void run(const arguments& wanted) {
  const embedding::model_folder folder(wanted.model);
  const embedding::bert_config& config = folder.config;
  const embedding::wordpiece split(folder.encoder / "vocab.txt", folder.tokenizer);
  if (split.size() > static_cast<std::size_t>(config.vocabulary))
    throw embedding::input_error((folder.encoder / "vocab.txt").string() + " has " +
                                 std::to_string(split.size()) + " lines, config.json says " +
                                 std::to_string(config.vocabulary));
  const embedding::bert model(folder.encoder / "model.safetensors", config, folder.pooling, folder.normalise);
  if (isatty(STDIN_FILENO)) std::fputs("sentences, one a line; ctrl-D ends them\n", stderr);
  const auto lines = read_lines(std::cin);
  const auto tokens = tokenize(lines, split, folder.most_tokens);
  const Matrix embeddings = embed(model, tokens, wanted);
  if (!wanted.out.empty()) write(wanted.out, embeddings);
  if (!wanted.attention.empty()) write_attention(wanted.attention, model, split, lines, tokens);
  print_similarities(embeddings);
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    throw embedding::input_error("cannot write standard output");
}

}  // namespace

int main(int argc, char** argv) {
  arguments wanted;
  CLI::App app(
      "Sentence embeddings: one sentence a line (UTF-8) on standard input, their similarities on standard "
      "output.");
  app.add_option("MODEL_DIR", wanted.model, "folder of the model: a BERT encoder of sentence-transformers")
      ->required();
  app.add_option("--out", wanted.out, "write the embeddings here: raw float32, one row a line of input");
  app.add_option("--attention", wanted.attention,
                 "write what the first sentence attends to here: a page (.html) or a picture (.svg, .png)")
      ->check(embedding::is_attention_file);
  app.add_option("--batching", wanted.batching, "how sentences share a batch")
      ->check(CLI::IsMember({"ragged", "padded"}))
      ->capture_default_str();
  app.add_option("--threads", wanted.threads, "how many threads compute")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  return examples::run_program("sentence_embedding", app, argc, argv, [&] {
    run(wanted);
    return 0;
  });
}
