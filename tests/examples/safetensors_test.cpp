// The reader of weights, on files that the test writes, whole and damaged.
#include "sentence_embedding/safetensors.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace {

std::filesystem::path file_of(const std::string& header, const std::vector<float>& data,
                              std::uint64_t header_size) {
  const auto path = std::filesystem::path(testing::TempDir()) / "weights.safetensors";
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(&header_size), 8);
  stream << header;
  stream.write(reinterpret_cast<const char*>(data.data()),
               static_cast<std::streamsize>(data.size() * sizeof(float)));
  return path;
}
std::filesystem::path file_of(const std::string& header, const std::vector<float>& data) {
  return file_of(header, data, header.size());
}

const std::string good =
    R"({"m":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"v":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}})";

TEST(Safetensors, ReadsMatricesAndVectors) {
  const embedding::safetensors file(file_of(good, {1, 2, 3, 4, 5, 6, 7, 8}));
  const auto m = file.matrix("m", 2, 3);
  EXPECT_EQ(m(0, 2), 3.f);
  EXPECT_EQ(m(1, 0), 4.f);
  EXPECT_EQ(file.matrix("v", 1, 2)(0, 1), 8.f);
}

// The message of what reading tensor "m" as 2 x 3 throws.
std::string complaint(const std::filesystem::path& path) {
  try {
    embedding::safetensors(path).matrix("m", 2, 3);
  } catch (const embedding::input_error& e) {
    return e.what();
  }
  return "accepted";
}
std::string complaint(const std::string& header, std::size_t floats) {
  return complaint(file_of(header, std::vector<float>(floats)));
}
void has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << "\n  " << text;
}
/// {"m": ...} with these values.
std::string record(const std::string& dtype, const std::string& shape, const std::string& range) {
  return R"({"m":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + range + "}}";
}

TEST(Safetensors, NamesWhatIsWrong) {
  has(complaint("/nonexistent/weights"), "/nonexistent/weights");
  has(complaint(testing::TempDir()), "cannot open");
  has(complaint(file_of(good, {1, 2, 3})), "truncated");
  has(complaint(file_of(good, {}, 1u << 30)), "truncated");
  has(complaint(file_of(good, {}, ~std::uint64_t(0))), "truncated");
  has(complaint("{", 1), "JSON");
  has(complaint(" " + good, 8), "JSON");
  has(complaint("[]", 0), "JSON");
  has(complaint(record(R"("F32")", "[3,2]", "[0,24]"), 6), "[3,2]");
  has(complaint(record(R"("F32")", "[2,3]", "[0,20]"), 6), "[0,20]");
  has(complaint(record(R"("F16")", "[2,3]", "[0,24]"), 6), "m has the byte range [0,24] for 12 bytes");
  has(complaint(record(R"("F16")", "[2,3]", "[0,12]"), 3), "m is of dtype F16, expected F32");
  has(complaint(record(R"("F33")", "[2,3]", "[0,24]"), 6),
      "m is of dtype F33, which the format does not have");
  has(complaint("{}", 0), "no tensor m");
}

TEST(Safetensors, RefusesRecordsThatAreDamaged) {
  for (const char* shape : {R"("x")", "[2.5,3]", "[-2,3]", "null", "[18446744073709551616]", "{}"})
    has(complaint(record(R"("F32")", shape, "[0,24]"), 6), "the record of m is damaged");
  for (const char* range :
       {R"("x")", "[0.9,24.9]", "[-8,16]", "[0]", "[0,24,24]", "[18446744073709551608,18446744073709551616]"})
    has(complaint(record(R"("F32")", "[2,3]", range), 6), "the record of m is damaged");
  for (const char* dtype : {"7", "null", R"(["F32"])"})
    has(complaint(record(dtype, "[2,3]", "[0,24]"), 6), "the record of m is damaged");
  for (const char* entry : {R"("x")", "{}", "[]", "7"})
    has(complaint(R"({"m":)" + std::string(entry) + "}", 0), "the record of m is damaged");
  // Products of sizes that come round: 2^64, 2^62 + 6, and one that a 0 would hide.
  for (const char* shape : {"[4294967296,4294967296]", "[4611686018427387910]", "[9223372036854775808,4,0]"})
    has(complaint(record(R"("F32")", shape, "[0,24]"), 6), "whose bytes no file holds");
  has(complaint(record(R"("F4")", "[3]", "[0,1]"), 1), "whose bytes no file holds");
  has(complaint(record(R"("F32")", "[2,3]", "[24,0]"), 6), "[24,0] for 24 bytes");
  has(complaint(record(R"("F32")", "[2,3]", "[18446744073709551592,0]"), 6), "[18446744073709551592,0]");
  has(complaint(record(R"("F32")", "[2,3]", "[18446744073709551584,18446744073709551608]"), 6), "truncated");
  has(complaint(R"({"__metadata__":{"a":1}})", 0), "__metadata__ that is not texts by name");
  has(complaint(R"({"m":{"a":{"b":{"c":{}}}}})", 0), "nested");
  has(complaint(record(R"("F32")", "[[2,3]]", "[0,24]"), 6), "nested");
}

TEST(Safetensors, RefusesBytesOfTwoTensorsOrOfNone) {
  const auto two = [](const std::string& m, const std::string& n) {
    return R"({"m":{"dtype":"F32","shape":[2,3],"data_offsets":)" + m +
           R"(},"n":{"dtype":"F32","shape":[2],"data_offsets":)" + n + "}}";
  };
  has(complaint(two("[0,24]", "[16,24]"), 6), "n shares bytes with m");
  has(complaint(two("[0,24]", "[0,8]"), 6), "m shares bytes with n");
  has(complaint(two("[0,24]", "[28,36]"), 9), "has bytes 24 to 28 in no tensor");
  has(complaint(two("[4,28]", "[28,36]"), 9), "has bytes 0 to 4 in no tensor");
  has(complaint(two("[0,24]", "[24,32]"), 9), "has bytes 32 to 36 in no tensor");
  has(complaint("{}", 1), "has bytes 0 to 4 in no tensor");
  EXPECT_EQ(complaint(two("[8,32]", "[0,8]"), 8), "accepted");
  const std::string one = R"("m":{"dtype":"F32","shape":[2,3],"data_offsets":[)";
  has(complaint("{" + one + "0,24]}," + one + "24,48]}}", 12), "says \"m\" twice");
  has(complaint(R"({"m":{"dtype":"F32","shape":[2,3],"shape":[2,3],"data_offsets":[0,24]}})", 6),
      "says \"shape\" twice");
}

TEST(Safetensors, TakesWhatTheFormatAllows) {
  EXPECT_EQ(
      complaint(R"({"__metadata__":{"format":"pt"},"s":{"dtype":"F64","shape":[],"data_offsets":[24,32]},)"
                R"("e":{"dtype":"I64","shape":[0,4],"data_offsets":[0,0]},)"
                R"("m":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24],"more":1}}   )",
                8),
      "accepted");
  const embedding::safetensors file(file_of(good, {1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(file.unread(), (std::vector<std::string>{"m", "v"}));
  file.matrix("m", 2, 3);
  EXPECT_EQ(file.unread(), (std::vector<std::string>{"v"}));
  const std::uint16_t half[6] = {0x3e00, 0xc000, 0x0001, 0x7bff, 0, 0x8000},
                      brain[6] = {0x3fc0, 0xc000, 1, 0x7f7f, 0, 0x8000};
  for (const auto* bits : {&half, &brain}) {
    std::vector<float> data(3);
    std::memcpy(data.data(), *bits, 12);
    const embedding::safetensors narrow(
        file_of(record(bits == &half ? R"("F16")" : R"("BF16")", "[2,3]", "[0,12]"), data));
    const auto m = narrow.widened("m", 2, 3);
    EXPECT_EQ(m(0, 0), 1.5f);
    EXPECT_EQ(m(0, 1), -2.f);
    EXPECT_EQ(m(0, 2), bits == &half ? 0x1p-24f : 0x1p-133f);
    EXPECT_EQ(m(1, 0), bits == &half ? 65504.f : 0x1.fep+127f);
    EXPECT_TRUE(std::signbit(m(1, 2)));
  }
}

}  // namespace
