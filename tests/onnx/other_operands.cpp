// onnx_other_operands ONNX_CASE FOLDER: operands that the definitions allow and the standard's cases lack,
// as cases that give what their plain forms give.
#include "operator_io.hpp"

#include <cmath>
#include <cstdlib>
#include <functional>
#include <iostream>

namespace fs = std::filesystem;

namespace {

using shape_type = std::vector<std::int64_t>;

struct operand {
  std::string dtype;
  shape_type shape;
  std::vector<double> values;
};

/// Numbers of one sign and another, exact in 16 bits.
operand filled(const std::string& dtype, const shape_type& shape, int seed) {
  operand x{dtype, shape, {}};
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  for (std::int64_t i = 0; i < count; ++i) x.values.push_back(double((i * 37 + seed) % 17 - 8) / 8);
  return x;
}

template <class E>
void append(std::string& bytes, double x) {
  const E e = static_cast<E>(static_cast<float>(x));
  bytes.append(reinterpret_cast<const char*>(&e), sizeof e);
}
void write(const fs::path& path, const operand& x) {
  std::string bytes;
  for (const double value : x.values) {
    if (x.dtype == "float32") append<float>(bytes, value);
    if (x.dtype == "float16") append<fovea::fp16>(bytes, value);
    if (x.dtype == "int64") append<std::int64_t>(bytes, value);
    if (x.dtype == "int16") append<std::int16_t>(bytes, value);
    if (x.dtype == "uint8") append<std::uint8_t>(bytes, value);
  }
  std::ofstream(path, std::ios::binary) << bytes;
}

struct runner {
  fs::path program, folder;
  int failures = 0;

  void expect(bool holds, const std::string& what) {
    if (!holds) std::cout << "failed: " << what << "\n", ++failures;
  }
  /// The outputs of a case, or nothing where it is refused.
  std::vector<std::vector<double>> outputs(const std::string& name, const std::string& head,
                                           const std::map<int, operand>& in,
                                           const std::vector<operand>& out) {
    fs::create_directories(folder / name);
    std::ofstream text(folder / name / "case.txt");
    text << "case " << name << "\n" << head << "\n";
    const auto record = [&](const char* what, int i, const operand& x) {
      text << "tensor " << what << " " << i << " x" << i << " " << x.dtype << " " << x.shape.size();
      std::int64_t bytes = static_cast<std::int64_t>(onnx::bytes_of(x.dtype));
      for (const auto size : x.shape) text << " " << size, bytes *= size;
      text << " " << what << i << ".bin " << bytes << "\n";
    };
    for (const auto& [i, x] : in)
      record("in", i, x), write(folder / name / ("in" + std::to_string(i) + ".bin"), x);
    for (std::size_t i = 0; i < out.size(); ++i) record("out", int(i), out[i]);
    text.close();
    const fs::path results = folder / "outputs";
    const std::string command = "'" + program.string() + "' --out '" + results.string() + "' '" +
                                (folder / name).string() + "' > '" + (folder / "log").string() + "'";
    std::vector<std::vector<double>> all;
    if (std::system(command.c_str()) != 0) return all;
    for (std::size_t i = 0; i < out.size(); ++i) {
      onnx::tensor_file t{"", out[i].dtype, out[i].shape, "", {}};
      t.bytes = onnx::read_bytes(
          results / name / ("output_" + std::to_string(i) + "_x" + std::to_string(i) + ".bin"),
          static_cast<std::size_t>(t.count()) * onnx::bytes_of(t.dtype));
      all.push_back(onnx::numbers(t));
    }
    return all;
  }
};

void attention(runner& run) {
  const std::string plain = "op Attention - 25";
  const shape_type of_q{2, 4, 5, 8}, of_k{2, 2, 7, 8};
  const operand q = filled("float32", of_q, 1), k = filled("float32", of_k, 2),
                v = filled("float32", of_k, 3), o{"float32", of_q, {}}, now{"float32", of_k, {}};
  const auto want = run.outputs("plain", plain, {{0, q}, {1, k}, {2, v}}, {o, now, now});
  run.expect(want.size() == 3, "a plain call");
  run.expect(run.outputs("cap", plain + "\nattr softcap float -0x1p+0", {{0, q}, {1, k}, {2, v}},
                         {o, now, now}) == want,
             "a softcap below 0 caps nothing");

  operand added{"float32", {5, 7}, {}};
  for (int i = 0; i < 35; ++i) added.values.push_back(i % 4);
  const auto biased = run.outputs("added", plain, {{0, q}, {1, k}, {2, v}, {3, added}}, {o});
  run.expect(biased.size() == 1 && biased[0] != want[0], "numbers that are added");
  for (const char* dtype : {"uint8", "int16", "int64"}) {
    added.dtype = dtype;
    run.expect(run.outputs(dtype, plain, {{0, q}, {1, k}, {2, v}, {3, added}}, {o}) == biased,
               std::string("the same in ") + dtype);
  }

  operand narrow_q = q, narrow_k = k, narrow_o = o, narrow_now = now;
  narrow_q.dtype = narrow_k.dtype = narrow_o.dtype = narrow_now.dtype = "float16";
  const auto mixed =
      run.outputs("mixed", plain, {{0, narrow_q}, {1, narrow_k}, {2, v}}, {narrow_o, narrow_now, now});
  run.expect(mixed.size() == 3 && mixed[1] == want[1] && mixed[2] == want[2], "values of another type");
  for (std::size_t i = 0; mixed.size() == 3 && i < want[0].size(); ++i)
    run.expect(std::abs(mixed[0][i] - want[0][i]) <= 1e-3, "their sums");
}

void rotary(runner& run) {
  const std::string op = "op RotaryEmbedding - 23";
  const operand x = filled("float32", {2, 3, 5, 8}, 1), out{"float32", x.shape, {}};
  const auto repeated = [](operand one) {
    const auto once = one.values;
    one.values.insert(one.values.end(), once.begin(), once.end()), one.shape[0] = 2;
    return one;
  };
  const operand cos = filled("float32", {1, 5, 4}, 2), sin = filled("float32", {1, 5, 4}, 3);
  const auto want = run.outputs("rows", op, {{0, x}, {1, repeated(cos)}, {2, repeated(sin)}}, {out});
  run.expect(want.size() == 1, "angles of each sequence");
  run.expect(run.outputs("one", op, {{0, x}, {1, cos}, {2, sin}}, {out}) == want, "angles of one for all");
  const operand longer = filled("float32", {2, 6, 4}, 2), positions{"int64", {1, 5}, {4, 2, 0, 1, 3}};
  run.expect(run.outputs("longer", op, {{0, x}, {1, longer}, {2, longer}}, {out}).empty(),
             "angles of 6 tokens");
  const operand table = filled("float32", {5, 4}, 2);
  const auto turned =
      run.outputs("ids", op, {{0, x}, {1, table}, {2, table}, {3, repeated(positions)}}, {out});
  run.expect(turned.size() == 1, "positions of each sequence");
  run.expect(run.outputs("id", op, {{0, x}, {1, table}, {2, table}, {3, positions}}, {out}) == turned,
             "positions of one for all");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  runner run{argv[1], argv[2]};
  fs::remove_all(run.folder), fs::create_directories(run.folder);
  attention(run), rotary(run);
  std::cout << (run.failures == 0 ? "good\n" : "bad\n");
  return run.failures != 0;
}
