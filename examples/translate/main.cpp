// translate train | run | attention | check | lengths: an encoder-decoder Transformer learns to read dates
// and times in six languages. See --help.
#include "checkpoint.hpp"
#include "lengths.hpp"
#include "look.hpp"

#include "../command_line.hpp"
#include "../stopwatch.hpp"

#include <atomic>
#include <csignal>
#include <functional>
#include <iostream>

namespace {

using examples::stopwatch;

std::atomic<bool> stopped{false};

struct arguments {
  std::string save, resume, file, out, text, encoder = "softmax";
  double minutes = 0;
  std::int64_t seed = 1, steps = 0, threads = 2, beam = 1, head = -1, check = 3000, longest = 8192;
  bool show_errors = false;
};

void print_matches(const translate::exact_matches& m) {
  const char* const splits[] = {"new date", "new combination", "both new"};
  for (std::size_t i = 0; i < 3; ++i)
    std::printf(
        "%s: %lld of %lld (%.2f %%)\n", splits[i], static_cast<long long>(m.right[i]),
        static_cast<long long>(m.asked[i]),
        100. * static_cast<double>(m.right[i]) / static_cast<double>(std::max<std::int64_t>(m.asked[i], 1)));
  std::printf("held-out exact match: %.2f %%\n", 100 * m.share());
}

constexpr std::uint64_t held_out_seed = 2;
const std::string default_file = "dates.model";

/// How long a run still takes at its pace since it started, checks and saves included; and, where its length
/// is given in minutes, how many steps that makes.
class pace {
 public:
  pace(const translate::trainer& run, double minutes) : first_(run.steps()), minutes_(minutes) {}

  double seconds_a_step(const translate::trainer& run) const {
    return since_start_.seconds() / static_cast<double>(std::max<std::int64_t>(run.steps() - first_, 1));
  }
  double seconds_left(const translate::trainer& run) const {
    return static_cast<double>(run.config().steps - run.steps()) * seconds_a_step(run);
  }
  /// Fits the schedule to the minutes; asked after each step, so that it ends with them.
  void fit(translate::trainer& run) const {
    if (minutes_ <= 0) return;
    if (run.steps() == first_) return run.end_after(first_ + 1);  // nothing is known yet
    const double left = std::max(60 * minutes_ - since_start_.seconds(), 0.);
    run.end_after(run.steps() + static_cast<std::int64_t>(left / seconds_a_step(run)));
  }
  double minutes() const { return since_start_.seconds() / 60; }

 private:
  stopwatch since_start_;
  std::int64_t first_;
  double minutes_;
};

std::string duration(double seconds) {
  const long long whole = std::llround(seconds);
  if (whole >= 3600) return std::to_string(whole / 3600) + " h " + std::to_string(whole / 60 % 60) + " min";
  if (whole >= 60) return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  return std::to_string(whole) + " s";
}

/// A line on standard error, written over on a terminal.
class progress {
 public:
  void operator()(const translate::trainer& run, double loss, double tokens_per_second, double seconds_left,
                  double exact) {
    const bool lasting = exact >= 0;
    if (lasting) exact_ = exact;
    if (!terminal_ && !lasting) return;
    const int done = run.config().steps > 0 ? static_cast<int>(20 * run.steps() / run.config().steps) : 20;
    std::fprintf(stderr, "%s[%.*s%.*s] step %lld of %lld, %s left, loss %.4f, %.0f tokens/s",
                 terminal_ ? "\r" : "", done, "####################", 20 - done, "....................",
                 static_cast<long long>(run.steps()), static_cast<long long>(run.config().steps),
                 duration(seconds_left).c_str(), loss, tokens_per_second);
    if (exact_ >= 0) std::fprintf(stderr, ", held-out exact match %.1f %%", 100 * exact_);
    std::fprintf(stderr, terminal_ ? "\033[K" : "\n");  // what a longer line left
  }
  ~progress() {
    if (terminal_) std::fprintf(stderr, "\n");
  }

 private:
  bool terminal_ = isatty(2) != 0;
  double exact_ = -1;
};

void train(const arguments& a) {
  using namespace translate;
  constexpr std::int64_t between_checks = 250, between_saves = 500, pairs_of_a_check = 384;
  const fovea::threads pool(a.threads);
  model_config model_of{.vocabulary = characters().size()};
  if (a.encoder == "gated_delta") model_of.delta_layers = model_of.encoder_layers;
  training_config config{.seed = a.seed};
  if (a.steps > 0) config = config.over(a.steps);
  std::optional<checkpoint> from;
  if (!a.resume.empty()) from.emplace(a.resume), model_of = from->model, config = from->training;
  trainer run(model_of, config);
  if (from) resume(*from, run), from.reset();
  const std::string length =
      a.minutes > 0 ? "the steps of " + duration(60 * a.minutes) : std::to_string(config.steps) + " steps";
  std::fprintf(stderr, "%lld parameters, %s, %lld pairs each, from step %lld\n",
               static_cast<long long>(transformer::parameter_count(run.trained())), length.c_str(),
               static_cast<long long>(config.batch), static_cast<long long>(run.steps()));
  const std::string& file = !a.save.empty() ? a.save : !a.resume.empty() ? a.resume : default_file;
  save(file, model_of, run);  // rather than learn at the end that it can not be written
  const pace at(run, a.minutes);
  at.fit(run);
  double loss = 0, speed = 0, tokens = 0, seconds = 0;
  {
    progress show;
    while (!run.done() && !stopped) {
      const stopwatch this_step;
      const auto r = run.step(pool);
      const double took = this_step.seconds(), now = static_cast<double>(r.tokens) / took;
      tokens += static_cast<double>(r.tokens), seconds += took;
      loss = loss == 0 ? r.loss : 0.95 * loss + 0.05 * r.loss;
      speed = speed == 0 ? now : 0.95 * speed + 0.05 * now;
      double exact = -1;
      if (run.steps() % between_checks == 0)
        exact =
            held_out_matches(run.trained(), run.known(), held_out_seed, 0, pairs_of_a_check, pool).share();
      at.fit(run);
      show(run, loss, speed, at.seconds_left(run), exact);
      if (run.steps() % between_saves == 0) save(file, model_of, run);
    }
  }
  save(file, model_of, run);
  std::printf("step %lld of %lld after %.1f minutes, loss %.4f, %.0f tokens/s, saved to %s\n",
              static_cast<long long>(run.steps()), static_cast<long long>(run.config().steps), at.minutes(),
              loss, seconds > 0 ? tokens / seconds : 0., file.c_str());
  if (!stopped)
    print_matches(held_out_matches(run.trained(), run.known(), held_out_seed, 0,
                                   static_cast<std::uint64_t>(a.check), pool));
}

void check(const arguments& a) {
  using namespace translate;
  const fovea::threads pool(a.threads);
  const auto m = held_out_matches(model_of(checkpoint(a.file)), characters(), held_out_seed, 0,
                                  static_cast<std::uint64_t>(a.check), pool);
  if (a.show_errors)
    for (const auto& [p, written] : m.wrong)
      std::printf("%s\t%s\t%s instead of %s\n", p.source.c_str(), p.style.c_str(), written.c_str(),
                  p.target.c_str());
  print_matches(m);
}

void run(const arguments& a) {
  using namespace translate;
  const model m = model_of(checkpoint(a.file));
  const characters known;
  std::int64_t number = 0;
  for (std::string line; !stopped && std::getline(std::cin, line);) {
    ++number;
    const auto source = [&] {
      try {
        return source_of(known, line);
      } catch (const std::invalid_argument& e) {
        throw std::invalid_argument("standard input, line " + std::to_string(number) + ": " + e.what());
      }
    }();
    packed one;
    one.add(source);
    const auto written = a.beam > 1 ? beam_search(m, source, a.beam) : greedy(m, one).front();
    std::printf("%s\n", known.decode(written).c_str());
    std::fflush(stdout);
  }
}

void attention(const arguments& a) {
  using namespace translate;
  const model m = model_of(checkpoint(a.file));
  const looks seen = where_it_looks(m, characters(), a.text, a.head);
  std::ofstream out(a.out);
  if (a.out.ends_with(".svg"))
    fovea::write_svg(out, picture_of(seen, a.text));
  else if (a.out.ends_with(".html"))
    fovea::write_page(out, picture_of(seen, a.text));
  else
    write_table(out, seen);
  if (!out.flush()) throw std::runtime_error("cannot write " + a.out);
  std::printf("%s\n", seen.translation.c_str());
}

void lengths(const arguments& a) {
  std::printf("tokens\tsoftmax, ms\tgated delta, ms\n");
  for (std::int64_t n = 32; n <= a.longest && !stopped; n *= 4) {
    const auto t = translate::time_layers(n);
    std::printf("%lld\t%.3g\t%.3g\n", static_cast<long long>(n), 1e3 * t.softmax, 1e3 * t.gated_delta);
  }
}

/// What the arguments are read into, and what is then to be done.
std::function<void()> declare_arguments(CLI::App& app, arguments& a) {
  app.require_subcommand(1);
  auto* const learn = app.add_subcommand("train", "trains a model from random weights");
  learn->add_option("--save", a.save,
                    "the checkpoint to write; without: that of --resume, or " + default_file);
  auto* const resume =
      learn->add_option("--resume", a.resume, "continue this checkpoint, with its seed and steps");
  auto* const minutes = learn
                            ->add_option("--minutes", a.minutes,
                                         "how long to train: as many steps as fit, and a schedule that ends "
                                         "with them")
                            ->check(CLI::Range(0.001, 1e5));
  learn
      ->add_option("--steps", a.steps,
                   "steps of the whole run, at whose end the rate is 0; without this and --minutes, " +
                       std::to_string(translate::training_config{}.steps))
      ->check(CLI::Range(1, 1 << 30))
      ->excludes(resume)
      ->excludes(minutes);
  learn->add_option("--seed", a.seed)->check(CLI::Range(0, 1 << 30))->capture_default_str()->excludes(resume);
  learn
      ->add_option(
          "--encoder", a.encoder,
          "what stands for attention in the encoder: softmax, or gated_delta, a state that the tokens "
          "before (half of the heads: behind) a token left")
      ->check(CLI::IsMember({"softmax", "gated_delta"}))
      ->capture_default_str()
      ->excludes(resume);
  const auto with_threads = [&](CLI::App* of) {
    of->add_option("--threads", a.threads)->check(CLI::Range(1, 1024))->capture_default_str();
  };
  const auto with_file = [&](CLI::App* of) {
    of->add_option("file", a.file, "a checkpoint")->required();
    return of;
  };
  with_threads(learn);
  auto* const say = with_file(app.add_subcommand("run", "translates the lines of standard input"));
  say->add_option("--beam", a.beam, "hypotheses; 1: greedy")->check(CLI::Range(1, 64))->capture_default_str();
  auto* const look = with_file(app.add_subcommand("attention", "writes what each character said looked at"));
  look->add_option("text", a.text)->required();
  look->add_option("--out", a.out, "a picture (.svg, .html), or a table")->required();
  look->add_option("--head", a.head, "of the last layer; -1: the mean")->capture_default_str();
  auto* const measure = with_file(app.add_subcommand("check", "counts exact matches of held-out pairs"));
  measure->add_option("--pairs", a.check)->check(CLI::Range(1, 1 << 24))->capture_default_str();
  measure->add_flag("--errors", a.show_errors, "print what was wrong");
  with_threads(measure);
  auto* const grow = app.add_subcommand("lengths", "times a layer of each kind, forward and backward");
  grow->add_option("--longest", a.longest, "tokens, up to which 32 are quadrupled")
      ->check(CLI::Range(32, 1 << 20))
      ->capture_default_str();
  return [=, &a] {
    if (*grow) lengths(a);
    if (*learn) train(a);
    if (*say) run(a);
    if (*look) attention(a);
    if (*measure) check(a);
  };
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) { stopped = true; });
  CLI::App app("Learns to translate dates and times in six languages to ISO 8601, and does.");
  arguments a;
  const auto run_command = declare_arguments(app, a);
  return examples::run_program("translate", app, argc, argv, [&] {
    run_command();
    return stopped ? 130 : 0;
  });
}
