// The program long_context: it finds what was hidden, wherever that is, and says so when it does not.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <unistd.h>

namespace {

const std::string in_temp =
    (std::filesystem::temp_directory_path() / ("long_context_" + std::to_string(getpid()))).string();

struct outcome {
  int status;
  std::string text;
};

std::string read(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}
outcome run(const std::string& arguments, const std::string& file = in_temp + ".kv") {
  const std::string command =
      std::string(LONG_CONTEXT) + " --file " + file + " " + arguments + " > " + in_temp + ".txt 2>&1";
  const int status = std::system(command.c_str()) / 256;
  const outcome ended{status, read(in_temp + ".txt")};
  std::filesystem::remove(in_temp + ".txt");
  return ended;
}

TEST(long_context, finds_the_needle) {
  const auto first = run("--tokens 40000 --depth 0.37 --picture " + in_temp + ".svg");
  EXPECT_EQ(first.status, 0) << first.text;
  for (const char* part :
       {"40000 tokens, 4 heads of 64, keys and values in int8\n", "written 100.0 %",
        "head 3: peak at token 14800, weight 0.9", "the needle stands at token 14800", ": found\n"})
    EXPECT_NE(first.text.find(part), std::string::npos) << part << "\n" << first.text;
  EXPECT_FALSE(std::filesystem::exists(in_temp + ".kv"));

  const std::string picture = read(in_temp + ".svg");
  std::filesystem::remove(in_temp + ".svg");
  EXPECT_EQ(picture.rfind("<svg ", 0), 0u);
  EXPECT_NE(picture.find("needle, 14800"), std::string::npos);
  std::size_t lines = 0;
  for (std::size_t at = 0; (at = picture.find("stroke=\"hsl(", at)) != std::string::npos; ++at) ++lines;
  EXPECT_EQ(lines, 4u);
  EXPECT_NE(picture.find("</svg>\n"), std::string::npos);
}

TEST(long_context, at_either_end_and_in_any_size) {
  for (const char* arguments : {"--tokens 5000 --depth 0 --threads 1", "--tokens 5001 --depth 1 --seed 5",
                                "--tokens 33 --heads 1 --dim 32 --resident 32", "--tokens 2"}) {
    const auto found = run(arguments);
    EXPECT_EQ(found.status, 0) << arguments << "\n" << found.text;
  }
}

TEST(long_context, says_what_is_wrong) {
  const auto lost = run("--tokens 20000 --sharpness 0.1");
  EXPECT_EQ(lost.status, 1);
  EXPECT_NE(lost.text.find(": not found\n"), std::string::npos) << lost.text;
  const auto expect_refused = [](const outcome& refused) {
    EXPECT_EQ(refused.status, 2) << refused.text;
    EXPECT_EQ(refused.text.rfind("long_context: ", 0), 0u) << refused.text;
  };
  for (const char* arguments :
       {"--tokens 1", "--tokens 1048577", "--depth 1.5", "--resident 31", "--needle 3"})
    expect_refused(run(arguments));
  const auto unwritten = run("--tokens 2", "/no/such/folder/file");
  EXPECT_NE(unwritten.text.find("can not be opened to be written"), std::string::npos) << unwritten.text;
  EXPECT_EQ(unwritten.status, 2);
}

}  // namespace
