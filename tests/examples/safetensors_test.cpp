// The reader of weights, on files that the test writes, whole and damaged.
#include "sentence_embedding/safetensors.hpp"

#include <gtest/gtest.h>

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

TEST(Safetensors, NamesWhatIsWrong) {
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(complaint("/nonexistent/weights"), "/nonexistent/weights");
  has(complaint(file_of(good, {1, 2, 3})), "truncated");
  has(complaint(file_of(good, {}, 1u << 30)), "truncated");
  has(complaint(file_of("{", {1})), "JSON");
  has(complaint(
          file_of(R"({"m":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]}})", std::vector<float>(6))),
      "[3,2]");
  has(complaint(
          file_of(R"({"m":{"dtype":"F16","shape":[2,3],"data_offsets":[0,24]}})", std::vector<float>(6))),
      "F16");
  has(complaint(
          file_of(R"({"m":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}})", std::vector<float>(6))),
      "[0,20]");
  has(complaint(file_of(R"({"m":{"dtype":"F32","shape":"x","data_offsets":[0,24]}})", std::vector<float>(6))),
      "damaged");
  has(complaint(file_of(R"({"n":{}})", {})), "no tensor m");
}

}  // namespace
