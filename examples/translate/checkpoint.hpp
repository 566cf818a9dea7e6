// translate/checkpoint.hpp - a training run as a file: what it is, how far it got, weights and AdamW's
// moments.
//
//   "fovea translate\n"  int64: version   int64 or double: the numbers of model_config, of training_config,
//   the steps done, the number of matrices
//   a matrix: its name (length, bytes), rows, columns, floats by rows
//   uint64: the sum (FNV-1a) of all bytes before
//
// Numbers are as in memory, little-endian on every machine this runs on.
#pragma once

#include "trainer.hpp"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>

#include <unistd.h>

namespace translate {

/// A file that is missing, damaged or no checkpoint; says which and why.
struct checkpoint_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {

inline constexpr std::string_view magic = "fovea translate\n";
inline constexpr std::int64_t version = 2;

inline std::uint64_t sum_of(std::string_view bytes) {
  std::uint64_t sum = 0xcbf29ce484222325;
  for (const char c : bytes) sum = (sum ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return sum;
}

struct writer {
  std::string bytes;
  template <class N>
  void number(N n) {
    bytes.append(reinterpret_cast<const char*>(&n), sizeof n);
  }
  void text(std::string_view s) { number(static_cast<std::int64_t>(s.size())), bytes.append(s); }
};

struct reader {
  std::string_view rest;
  const std::string& path;

  const char* take(std::uint64_t n) {
    if (n > rest.size()) throw checkpoint_error(path + " ends early");
    const char* const at = rest.data();
    rest.remove_prefix(n);
    return at;
  }
  template <class N>
  N number() {
    N n;
    std::memcpy(&n, take(sizeof n), sizeof n);
    return n;
  }
  std::int64_t size() {
    const auto n = number<std::int64_t>();
    if (n < 0 || n > std::int64_t{1} << 32)
      throw checkpoint_error(path + " has a size of " + std::to_string(n));
    return n;
  }
};

/// To a file beside it, which then takes its name: who reads sees all of the old file or all of the new one.
inline void replace_file(const std::string& path, std::string_view bytes) {
  const std::string beside = path + ".new";
  const auto fails = [&](const char* what) {
    std::remove(beside.c_str());
    throw checkpoint_error("cannot " + std::string(what) + " " + path);
  };
  std::FILE* const file = std::fopen(beside.c_str(), "wb");
  if (file == nullptr) fails("write");
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size() &&
                       std::fflush(file) == 0 && fsync(fileno(file)) == 0;
  if (std::fclose(file) != 0 || !written) fails("write");
  if (std::rename(beside.c_str(), path.c_str()) != 0) fails("replace");
}

}  // namespace detail

/// What a checkpoint file says.
struct checkpoint {
  std::string path;
  model_config model;
  training_config training;
  std::int64_t steps = 0;
  std::map<std::string, matrix> matrices;

  /// Throws checkpoint_error where the file can not be read or is not whole.
  explicit checkpoint(std::string file) : path(std::move(file)) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw checkpoint_error("cannot open " + path);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    if (!in.good() && !in.eof()) throw checkpoint_error("cannot read " + path);
    using detail::magic;
    if (bytes.substr(0, magic.size()) != magic.substr(0, bytes.size()) || bytes.empty())
      throw checkpoint_error(path + " is not a checkpoint of this program");
    if (bytes.size() < magic.size() + 16) throw checkpoint_error(path + " ends early");
    const std::string_view body = std::string_view(bytes).substr(0, bytes.size() - 8);
    std::uint64_t sum;
    std::memcpy(&sum, bytes.data() + body.size(), 8);
    detail::reader from{body.substr(magic.size()), path};
    if (const auto v = from.number<std::int64_t>(); v != detail::version)
      throw checkpoint_error(path + " has version " + std::to_string(v) + ", not " +
                             std::to_string(detail::version));
    if (sum != detail::sum_of(body)) throw checkpoint_error(path + " is damaged, or ends early");
    const auto number = [&](const char*, auto& n) {
      n = from.number<std::remove_reference_t<decltype(n)>>();
    };
    model_config::each(model, number), training_config::each(training, number);
    steps = from.size();
    for (std::int64_t left = from.size(); left > 0; --left) {
      const auto length = static_cast<std::uint64_t>(from.size());
      const std::string name(from.take(length), length);
      const auto rows = from.size(), cols = from.size();
      const auto most = static_cast<std::int64_t>(from.rest.size() / sizeof(float));
      if (rows > 0 && cols > most / rows)
        throw checkpoint_error(path + " ends early: " + name + " is " + std::to_string(rows) + " x " +
                               std::to_string(cols));
      const auto count = static_cast<std::uint64_t>(rows * cols);
      const char* const values = from.take(count * sizeof(float));
      std::memcpy(matrices.emplace(name, matrix(rows, cols)).first->second.data(), values,
                  count * sizeof(float));
    }
    check_model();
  }

  /// Into a matrix of this name and size.
  void load(const std::string& name, auto& to) const {
    const auto found = matrices.find(name);
    if (found == matrices.end()) throw checkpoint_error(path + " has no " + name);
    const matrix& from = found->second;
    if (from.rows() != to.rows() || from.cols() != to.cols())
      throw checkpoint_error(path + ": " + name + " is " + std::to_string(from.rows()) + " x " +
                             std::to_string(from.cols()) + ", not " + std::to_string(to.rows()) + " x " +
                             std::to_string(to.cols()));
    to = from;
  }

 private:
  void check_model() const {
    model_config::each(model, [&](const std::string_view name, std::int64_t n) {
      const bool within =
          name == "delta_layers" ? n >= 0 && n <= model.encoder_layers : n >= 1 && n <= 1 << 16;
      if (!within) throw checkpoint_error(path + ": " + std::string(name) + " is " + std::to_string(n));
    });
    if (model.vocabulary != characters().size())
      throw checkpoint_error(path + " knows " + std::to_string(model.vocabulary) + " characters, not " +
                             std::to_string(characters().size()));
    if (model.width % (2 * model.heads) != 0)
      throw checkpoint_error(path + ": " + std::to_string(model.heads) + " heads do not divide a width of " +
                             std::to_string(model.width) + " into even parts");
    if (model.delta_layers > 0 && model.heads % 2 != 0)
      throw checkpoint_error(path + ": delta_layers is " + std::to_string(model.delta_layers) + ", but of " +
                             std::to_string(model.heads) + " heads not half can read each way");
    if (training.batch < 1 || training.steps < 0 || steps < 0)
      throw checkpoint_error(path + " has a batch of " + std::to_string(training.batch) + ", " +
                             std::to_string(steps) + " of " + std::to_string(training.steps) + " steps");
  }
};

/// Writes a run so that it continues with the same bits.
inline void save(const std::string& path, const model_config& model, trainer& run) {
  detail::writer to;
  to.bytes = detail::magic;
  to.number(detail::version);
  const auto number = [&](const char*, const auto& n) { to.number(n); };
  model_config::each(model, number), training_config::each(run.config(), number);
  to.number(run.steps());
  std::int64_t count = 0;
  run.each_matrix([&](const std::string&, const auto&) { ++count; });
  to.number(count);
  run.each_matrix([&](const std::string& name, const auto& m) {
    to.text(name);
    to.number(static_cast<std::int64_t>(m.rows())), to.number(static_cast<std::int64_t>(m.cols()));
    to.bytes.append(reinterpret_cast<const char*>(m.data()),
                    static_cast<std::size_t>(m.size()) * sizeof(float));
  });
  to.number(detail::sum_of(to.bytes));
  detail::replace_file(path, to.bytes);
}

/// Goes on with a run that was made from the checkpoint's configurations.
inline void resume(const checkpoint& from, trainer& run) {
  run.each_matrix([&](const std::string& name, auto& m) { from.load(name, m); });
  run.resume(from.steps);
}

/// The trained model alone.
inline model model_of(const checkpoint& from) {
  model m(from.model, 0);
  model::each_parameter(
      "", [&](const std::string& name, auto& p) { from.load(name, p); }, m);
  return m;
}

}  // namespace translate
