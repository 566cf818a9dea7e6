// The program translate on a tiny model: it learns, decodes the same in every way, and its runs continue with
// the same bits.
#include "../support/max_abs.hpp"
#include "translate/checkpoint.hpp"
#include "translate/look.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace {

using namespace translate;
namespace files = std::filesystem;

const model_config tiny{.vocabulary = characters().size(),
                        .width = 48,
                        .heads = 2,
                        .inner = 96,
                        .encoder_layers = 1,
                        .decoder_layers = 1};

/// The same with a state in place of the encoder's attention.
model_config tiny_of(bool gated_delta) {
  model_config config = tiny;
  if (gated_delta) config.delta_layers = config.encoder_layers;
  return config;
}
class TranslateBy : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Encoders, TranslateBy, testing::Bool(), [](const auto& gated_delta) {
  return std::string(gated_delta.param ? "gated_delta" : "softmax");
});

const fovea::threads& pool() {
  static const fovea::threads two(2);
  return two;
}

/// A run, and the mean loss of its last steps.
struct finished_run {
  static constexpr std::int64_t last = 50;

  trainer run;
  double first_loss = 0, loss = 0;

  explicit finished_run(std::int64_t steps, const model_config& config = tiny)
      : run(config, {.steps = steps, .batch = 32, .warm_up = 60, .peak = 5e-3}) {
    while (!run.done()) {
      const double now = run.step(pool()).loss;
      if (run.steps() == 1) first_loss = now;
      if (run.steps() > steps - last) loss += now / static_cast<double>(last);
    }
  }
};
/// Enough to say something of its own.
finished_run& trained(bool gated_delta = false) {
  static finished_run attends(200);
  if (!gated_delta) return attends;
  static finished_run recalls(100, tiny_of(true));
  return recalls;
}

packed sources(std::uint64_t count) {
  packed all;
  for (std::uint64_t i = 0; i < count; ++i) all.add(characters().encode(held_out_pair(2, i).source));
  return all;
}

std::span<const int> text_of(const packed& all, std::size_t i) {
  return std::span(all.tokens)
      .subspan(static_cast<std::size_t>(all.offsets[i]),
               static_cast<std::size_t>(all.offsets[i + 1] - all.offsets[i]));
}

/// The weights and the optimiser's moments.
std::vector<matrix> state_of(trainer& run) {
  std::vector<matrix> all;
  run.each_matrix([&](const std::string&, const auto& m) { all.push_back(m); });
  return all;
}

/// For each parameter, the loss's slope along its gradient is the gradient's squared length. (Gradients of
/// the parts are checked closely elsewhere, in double; this is about how they are put together.)
TEST_P(TranslateBy, TheGradientIsTheSlopeOfTheLoss) {
  auto config = tiny;
  config.encoder_layers = config.decoder_layers = 2;
  if (GetParam()) config.delta_layers = 2;
  model m(config, 5);
  model::each_parameter(
      "",
      [](const std::string& name, auto& p) {  // decays that matter: at first a head forgets little
        if (name.ends_with("rates.bias")) p.setConstant(-1);
        if (name.ends_with("log_rate")) p.setZero();
      },
      m);
  batch b;
  for (std::uint64_t i = 0; i < 6; ++i) b.add(training_pair(9, i), characters());
  model::saved saved;
  const auto loss_of = [&] { return transformer::cross_entropy<float>{}(m(b, saved), b.next); };
  model gradient = transformer::zeros_like(m);
  const auto here = loss_of();
  m.backward(here.gradient, b, saved, gradient);
  int parameters = 0;
  for (auto& p : transformer::parameters_of<float>(m, gradient)) {
    matrix g = p.gradient, was = p.value;
    if (p.name.ends_with("qkv.bias")) {  // keys: 0 but for rounding, where nothing turns them
      const bool turned = p.name.find("attend") != std::string::npos;
      if (!turned) g.middleCols(config.width, config.width).setZero();
    }
    const double squares = static_cast<double>(g.squaredNorm());
    ASSERT_GT(squares, 1e-12) << p.name;
    const double h = std::min(3e-4 / squares, 0.1 / std::sqrt(squares));  // the loss changes by 3e-4, or less
    const auto change = [&](double step) {
      p.value = was + static_cast<float>(step) * g;
      const double above = loss_of().mean();
      p.value = was - static_cast<float>(step) * g;
      return above - loss_of().mean();
    };
    EXPECT_NEAR((8 * change(h) - change(2 * h)) / (12 * h * squares), 1, 0.02) << p.name;
    p.value = was;
    ++parameters;
  }
  const int of_attention = GetParam() ? 2 * 7 : 4;
  EXPECT_EQ(parameters, 1 + 2 * (4 + of_attention + 4) + 2 * (6 + 8 + 4) + 4);
}

TEST_P(TranslateBy, Learns) {
  const finished_run long_enough(900, tiny_of(GetParam()));
  EXPECT_NEAR(long_enough.first_loss, std::log(static_cast<double>(tiny.vocabulary)), 1.5);
  EXPECT_LT(long_enough.loss, 0.5) << "an encoder that gets no gradient leaves it above 0.65";
  RecordProperty("loss", std::to_string(long_enough.loss));
}

TEST_P(TranslateBy, GreedyIsABeamOfOne) {
  const model& m = trained(GetParam()).run.trained();
  const packed all = sources(24);
  const auto written = greedy(m, all);
  for (std::size_t i = 0; i < written.size(); ++i) {
    EXPECT_EQ(beam_search(m, text_of(all, i), 1), written[i]);
    packed one;
    one.add(text_of(all, i));
    EXPECT_EQ(greedy(m, one).front(), written[i]) << "alone and among others";
    EXPECT_FALSE(beam_search(m, text_of(all, i), 4).empty());
  }
}

/// Each step with caches against the whole target at once, while hypotheses are exchanged.
TEST_P(TranslateBy, CachedDecodingIsUncached) {
  const model& m = trained(GetParam()).run.trained();
  const packed source = sources(3);
  constexpr fovea::index_type beams = 2, rows = 3 * beams;
  decoding step(m, source, beams);
  std::vector<std::vector<int>> written(rows);
  for (fovea::index_type n = 0; n < 18; ++n) {
    std::vector<int> newest(rows);
    for (std::size_t i = 0; i < rows; ++i) {
      newest[i] = n == 0 ? characters::begin : static_cast<int>(4 + (7 * n + 13 * static_cast<int>(i)) % 100);
      written[i].push_back(newest[i]);
    }
    const matrix logits = step(newest);
    for (std::size_t i = 0; i < rows; ++i) {
      batch whole;
      whole.source.add(text_of(source, i / beams)), whole.target.add(written[i]);
      model::saved unused;
      const matrix expected = m(whole, unused).bottomRows(1);
      EXPECT_LT(fovea_test::max_abs(logits.row(static_cast<Eigen::Index>(i)) - expected), 1e-4) << n;
    }
    if (n % 3 == 1) {  // both hypotheses of a source become what the second was
      step.reorder({1, 1, 2, 3, 5, 4});
      const auto before = written;
      const std::size_t from[] = {1, 1, 2, 3, 5, 4};
      for (std::size_t i = 0; i < rows; ++i) written[i] = before[from[i]];
    }
  }
}

TEST_P(TranslateBy, SameBitsOnOneThreadAndOnTwo) {
  const training_config config{.steps = 10, .batch = 12};
  trainer one(tiny_of(GetParam()), config), two(tiny_of(GetParam()), config);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(one.step(fovea::threads(1)).loss, two.step(pool()).loss);
  }
  EXPECT_EQ(state_of(one), state_of(two));
}

template <class Test>
class InAFolder : public Test {
 protected:
  InAFolder() { files::create_directories(folder_); }
  ~InAFolder() override { files::remove_all(folder_); }

  std::string path(const char* name) const { return (folder_ / name).string(); }
  void write(const char* name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
  }
  std::string read(const char* name) const {
    std::ifstream in(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  /// The program's exit code; what it prints is in the files out and err.
  int call(const std::string& before, const std::string& arguments) const {
    const int status = std::system(
        (before + " " TRANSLATE " " + arguments + " > " + path("out") + " 2> " + path("err")).c_str());
    return WEXITSTATUS(status);
  }

 private:
  files::path folder_ = files::temp_directory_path() /
                        (std::string("fovea_translate_test.").append(std::to_string(getpid())).append(".") +
                         std::to_string(std::hash<std::string>{}(
                             testing::UnitTest::GetInstance()->current_test_info()->name())));
};

class TranslateFiles : public InAFolder<testing::Test> {};
class TranslateFilesBy : public InAFolder<testing::TestWithParam<bool>> {};
INSTANTIATE_TEST_SUITE_P(Encoders, TranslateFilesBy, testing::Bool(), [](const auto& gated_delta) {
  return std::string(gated_delta.param ? "gated_delta" : "softmax");
});

TEST_P(TranslateFilesBy, ARunContinuesWithTheSameBits) {
  const model_config of_run = tiny_of(GetParam());
  const training_config config{.seed = 3, .steps = 8, .batch = 12, .warm_up = 2};
  trainer whole(of_run, config), half(of_run, config);
  for (int i = 0; i < 4; ++i) whole.step(pool()), half.step(pool());
  save(path("half"), of_run, half);
  EXPECT_FALSE(files::exists(path("half.new")));
  const checkpoint from(path("half"));
  EXPECT_EQ(from.steps, 4);
  EXPECT_EQ(from.model.delta_layers, of_run.delta_layers);
  EXPECT_EQ(from.training.seed, 3);
  trainer second(from.model, from.training);
  resume(from, second);
  while (!whole.done()) EXPECT_EQ(whole.step(pool()).loss, second.step(pool()).loss);
  EXPECT_TRUE(second.done());
  EXPECT_EQ(state_of(whole), state_of(second));
  save(path("half"), of_run, whole), save(path("second"), of_run, second);
  EXPECT_EQ(read("half"), read("second"));
}

TEST_F(TranslateFiles, ADamagedCheckpointIsRefused) {
  trainer run(tiny, {.batch = 2});
  save(path("good"), tiny, run);
  const std::string good = read("good");
  EXPECT_NO_THROW(model_of(checkpoint(path("good"))));
  const auto expect_error = [&](const std::string& bytes, const char* sentence) {
    write("bad", bytes);
    try {
      const checkpoint read(path("bad"));
      ADD_FAILURE() << "no error: " << sentence;
    } catch (const checkpoint_error& e) {
      EXPECT_NE(std::string(e.what()).find(path("bad")), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(sentence), std::string::npos) << e.what();
    }
  };
  expect_error("", "is not a checkpoint");
  expect_error("PK\3\4 something else that is much longer than a header", "is not a checkpoint");
  expect_error(good.substr(0, 20), "ends early");
  for (const std::size_t length : {good.size() / 2, good.size() - 1})
    expect_error(good.substr(0, length), "is damaged, or ends early");
  for (const std::size_t at : {std::size_t{40}, std::size_t{300}, good.size() / 2, good.size() - 3}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    expect_error(bad, "is damaged");
  }
  std::string newer = good;
  newer[16] = 9;
  expect_error(newer, "has version 9, not 2");
  EXPECT_THROW(checkpoint(path("missing")), checkpoint_error);
  // Whole by their sum, but with numbers that do not fit.
  const auto with = [&](std::initializer_list<std::pair<std::size_t, std::int64_t>> numbers) {
    std::string bad = good;
    for (const auto& [at, n] : numbers) std::memcpy(bad.data() + at, &n, sizeof n);
    const auto sum = detail::sum_of(std::string_view(bad).substr(0, bad.size() - 8));
    std::memcpy(bad.data() + bad.size() - 8, &sum, 8);
    return bad;
  };
  constexpr std::size_t heads = 40, delta_layers = 72;
  expect_error(with({{heads, 3}, {delta_layers, 1}}), "delta_layers is 1, but of 3 heads not half");
  std::string first;
  run.each_matrix([&](const std::string& name, const auto&) { first = first.empty() ? name : first; });
  const std::size_t rows = good.find(first) + first.size();
  constexpr std::int64_t huge = std::int64_t{1} << 31;
  expect_error(with({{rows, huge}, {rows + 8, huge}}), "is 2147483648 x 2147483648");
  trainer other({.vocabulary = tiny.vocabulary, .width = 8, .heads = 2}, {.batch = 2});
  EXPECT_THROW(resume(checkpoint(path("good")), other), checkpoint_error);
  EXPECT_THROW(save(path("no/such/folder"), tiny, run), checkpoint_error);
}

TEST_P(TranslateFilesBy, TheProgramTranslates) {
  finished_run& learnt = trained(GetParam());
  save(path("model"), tiny_of(GetParam()), learnt.run);
  const packed all = sources(5);
  const auto written = greedy(learnt.run.trained(), all);
  std::string input, expected;
  for (std::size_t i = 0; i < written.size(); ++i)
    input += held_out_pair(2, i).source + "\n", expected += characters().decode(written[i]) + "\n";
  write("in", input);
  EXPECT_EQ(call("", "run " + path("model") + " < " + path("in")), 0) << read("err");
  EXPECT_EQ(read("out"), expected);
  EXPECT_EQ(call("", "run " + path("model") + " --beam 3 < " + path("in")), 0) << read("err");

  EXPECT_EQ(call("", "attention " + path("model") + " --out " + path("table") + " '3 Mar 2021'"), 0);
  const std::string table = read("table");
  EXPECT_EQ(std::ranges::count(table.substr(0, table.find('\n')), '\t'), 10);
  std::istringstream lines(table.substr(table.find('\n') + 1));
  int rows = 0;
  for (std::string line; std::getline(lines, line); ++rows) {
    std::istringstream fields(line.substr(line.find('\t')));
    double sum = 0;
    for (double weight; fields >> weight;) sum += weight;
    EXPECT_NEAR(sum, 1, 1e-4) << line;
  }
  EXPECT_EQ(rows, static_cast<int>(characters().encode(read("out")).size()))
      << "the newline counts as the end";
}

TEST_F(TranslateFiles, TheProgramSaysWhatIsWrong) {
  write("bad", "no checkpoint");
  const auto expect_refusal = [&](const std::string& arguments, const char* sentence) {
    EXPECT_EQ(call("", arguments + " < /dev/null"), 2) << arguments;
    EXPECT_NE(read("err").find(sentence), std::string::npos) << arguments << ": " << read("err");
  };
  expect_refusal("", "subcommand");
  expect_refusal("run " + path("missing"), "cannot open");
  expect_refusal("run " + path("bad"), "is not a checkpoint");
  expect_refusal("train --resume " + path("bad"), "is not a checkpoint");
  expect_refusal("train --threads 0", "translate: --threads");
  expect_refusal("train --minutes 5 --steps 7", "translate: --minutes excludes --steps");
  expect_refusal("train --seed 3 --resume " + path("bad"), "excludes");
  expect_refusal("train --encoder linear", "--encoder: linear not in");
  expect_refusal("train --encoder gated_delta --resume " + path("bad"), "excludes");
  expect_refusal("train --save " + path("no/such/folder"), "cannot write");
  expect_refusal("attention " + path("bad"), "text is required");
  expect_refusal("attention " + path("bad") + " x", "--out is required");
  save(path("model"), tiny, trained().run);
  expect_refusal("attention " + path("model") + " --head 2 --out " + path("t") + " x",
                 "head 2 is not one of 2");
  write("in", std::string(600, 'x') + "\n");
  EXPECT_EQ(call("", "run " + path("model") + " < " + path("in")), 2);
  EXPECT_NE(read("err").find("600 characters, more than 512"), std::string::npos) << read("err");
  for (const char* const text : {"3 m\xe4rz", "\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80"}) {
    write("in", "3 Mar 2021\n" + std::string(text) + "\n");
    EXPECT_EQ(call("", "run " + path("model") + " < " + path("in")), 2);
    const std::string place = text[0] == '3' ? "4" : "1";
    EXPECT_EQ(read("err"), "translate: standard input, line 2: invalid UTF-8 at byte " + place + "\n");
  }
}

TEST_F(TranslateFiles, LayersAreTimed) {
  EXPECT_EQ(call("", "lengths --longest 200"), 0) << read("err");
  const std::string table = read("out");
  EXPECT_TRUE(table.starts_with("tokens\tsoftmax, ms\tgated delta, ms\n32\t")) << table;
  EXPECT_EQ(std::ranges::count(table, '\n'), 3) << table;
}

TEST_F(TranslateFiles, AnInterruptedTrainingIsSaved) {
  EXPECT_EQ(call("timeout -s INT --preserve-status 3", "train --steps 100000 --save " + path("model")), 130)
      << read("err");
  const checkpoint saved(path("model"));
  EXPECT_EQ(saved.training.steps, 100000);
  EXPECT_EQ(call("", "train --minutes 0.02 --resume " + path("model")), 0) << read("err");
  const checkpoint longer(path("model"));
  EXPECT_GT(longer.steps, saved.steps) << "saved where it came from";
  EXPECT_EQ(longer.training.steps, longer.steps) << "the schedule ended with the minutes";
}

TEST_F(TranslateFiles, AScheduleIsFittedToMinutes) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(call("", "train --minutes 0.05 --save " + path("model")), 0) << read("err");
  EXPECT_GT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  const checkpoint fitted(path("model"));
  EXPECT_EQ(fitted.training.steps, fitted.steps) << "whose last step had a rate of 0";
  EXPECT_GT(fitted.steps, 1);
  EXPECT_LE(fitted.training.warm_up, fitted.steps / 10);
}

/// A run whose length changes on the way ends as its new length says, and not before what is done.
TEST(Translate, ARunCanBeMadeLongerAndShorter) {
  trainer run(tiny, training_config{.batch = 4}.over(50));
  EXPECT_EQ(run.config().warm_up, 5);
  run.step(pool()), run.step(pool());
  run.end_after(4);
  EXPECT_EQ(run.config().steps, 4);
  run.step(pool());
  run.end_after(1);
  EXPECT_EQ(run.config().steps, 3);
  EXPECT_TRUE(run.done());
}

}  // namespace
