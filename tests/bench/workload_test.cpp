// The words of fovea_bench: what they mean, what is missing, what is refused, and the work that a row counts.
#include "command_line.hpp"

#include <gtest/gtest.h>

using namespace bench;

namespace {

/// What the parser says to words it refuses; empty where it takes them.
std::string refusal(std::string_view words) try {
  parse_workload(words);
  return "";
} catch (const std::invalid_argument& e) {
  return e.what();
}

/// The parser takes each key that --help names, and says no other.
TEST(workload, help_names_every_key) {
  const std::string help = help_text(), unknown = refusal("speed=9");
  EXPECT_EQ(known_keys().size(), 21u);
  for (const auto& entry : known_keys()) {
    EXPECT_NE(help.find("\n  " + entry.key + "="), std::string::npos) << entry.key;
    EXPECT_NE(unknown.find(" " + entry.key), std::string::npos) << entry.key;
    EXPECT_EQ(refusal(entry.key + "=?").find("unknown key"), std::string::npos) << entry.key;
  }
}

/// The name of a model stands for its words, and more may follow.
TEST(workload, may_have_the_name_of_a_model) {
  const std::string help = help_text();
  for (const auto& m : model_workloads) {
    EXPECT_EQ(parse_workload(m.name), parse_workload(m.words));
    EXPECT_NE(help.find("\n  " + std::string(m.name) + "=\"" + std::string(m.words) + "\"\n"),
              std::string::npos);
    auto twice = parse_workload(m.words);
    twice.threads = 2;
    EXPECT_EQ(parse_workload(std::string(m.name) + ",threads=2"), twice);
  }
  EXPECT_EQ(parse_workload("gpt_oss_sink").with, modifier::sink);
  EXPECT_EQ(refusal("gpt_oss"), "workload \"gpt_oss\": \"gpt_oss\" is not key=value");
  EXPECT_NE(refusal("clip_text,d=8").find("the key d stands twice"), std::string::npos);
  EXPECT_EQ(refusal("mask=causal,with=sink"), "");
  EXPECT_NE(refusal("mask=prefix:3,with=sink"), "");
}

TEST(workload, reads_every_key) {
  const auto w = parse_workload(
      "B=2,Hq=32,Hkv=8,Lq=1024,Lk=2048,d=64,dv=96,mask=window:255,dtype=bf16,kv=f16,layout=bshd,threads=2");
  const workload expected{.batch = 2,
                          .heads = 32,
                          .kv_heads = 8,
                          .queries = 1024,
                          .keys = 2048,
                          .dim = 64,
                          .value_dim = 96,
                          .mask = mask::window,
                          .mask_size = 255,
                          .dtype = element::bf16,
                          .kv = element::f16,
                          .layout = layout::bshd,
                          .threads = 2};
  EXPECT_EQ(w, expected);
}

TEST(workload, missing_keys_take_defaults) {
  const auto w = parse_workload("Hq=12,Lq=197,d=40,dtype=f64");
  const workload expected{.batch = 1,
                          .heads = 12,
                          .kv_heads = 12,
                          .queries = 197,
                          .keys = 197,
                          .dim = 40,
                          .value_dim = 40,
                          .mask = mask::none,
                          .mask_size = 0,
                          .dtype = element::f64,
                          .kv = element::f64,
                          .layout = layout::bhsd,
                          .threads = 1};
  EXPECT_EQ(w, expected);
}

TEST(workload, order_of_words_does_not_matter) {
  EXPECT_EQ(parse_workload("Lk=7,kv=f16,Hkv=1,dv=3"), parse_workload("dv=3,Hkv=1,kv=f16,Lk=7"));
}

TEST(workload, text_reads_back) {
  for (const char* words : {"B=1",
                            "dtype=f64",
                            "mask=causal,layout=eigen_col",
                            "mask=window:0,kv=bf16",
                            "B=3,Hq=6,Hkv=2,Lq=5,Lk=9,d=7,dv=11,layout=bshd,threads=4",
                            "with=softcap",
                            "op=decomposed",
                            "op=gate,mask=causal",
                            "op=differential,Hq=4,Hkv=2",
                            "op=sigmoid",
                            "op=transformer_xl",
                            "op=talking_heads",
                            "op=cosine",
                            "op=luong",
                            "op=weights_into,mask=causal",
                            "dtype=bf16,weights=rounded",
                            "with=t5",
                            "with=swin",
                            "with=table",
                            "B=2,Hq=4,Hkv=2,Lq=2,lens=7:90,kv=i8,cache=paged:8",
                            "Lk=2048,cache=ring,kv=bf16",
                            "Lk=2048,cache=paged:16,kv=f8",
                            "Lk=2048,cache=contiguous,kv=q4",
                            "mask=blocks:64:0.1",
                            "mask=topk:64:0.1",
                            "mask=documents:256,op=backward",
                            "mask=prefix:9",
                            "mask=tree:32,Lq=32,Lk=90",
                            "mask=neighbourhood:7",
                            "mask=longformer:128",
                            "mask=dilated:3"})
    EXPECT_EQ(parse_workload(to_text(parse_workload(words))), parse_workload(words)) << words;
  EXPECT_EQ(to_text(parse_workload("B=1")),
            "B=1,Hq=8,Hkv=8,Lq=1024,Lk=1024,d=64,dv=64,mask=none,dtype=f32,kv=f32,layout=bhsd,threads=1");
}

TEST(workload, refuses_and_names_the_culprit) {
  const std::pair<const char*, const char*> refused[] = {
      {"Lz=3", "unknown key \"Lz\""},
      {"lq=3", "unknown key \"lq\""},
      {"with=alibi,mask=causal", "with=alibi: timed without a mask"},
      {"op=decomposed,Lq=8", "Lq=8, Lk=8: timed without a mask, of a square grid"},
      {"op=differential,Hq=3", "op=differential: Hq=3, Hkv=3 are those of both softmaxes, even"},
      {"with=swin,Lq=8", "Lq=8, Lk=8 is no square window"},
      {"weights=rounded", "weights=rounded: timed forward, with dtype=bf16 and kv=bf16"},
      {"with=magic", "unknown value \"magic\"; known are none, alibi, softcap"},
      {"mask=diagonal",
       "unknown value \"diagonal\"; known are none, causal, window:N, blocks:N:S, documents:N"},
      {"mask=window", "unknown value \"window\""},
      {"mask=causal:3", "unknown value \"causal:3\""},
      {"mask=blocks:64", "\"\" is not a share of the blocks"},
      {"mask=blocks:64:1.5", "\"1.5\" is not a share of the blocks, above 0 and at most 1"},
      {"mask=blocks:64:nan", "\"nan\" is not a share"},
      {"mask=blocks:8:0.5", "\"8\" is not a whole number from 16"},
      {"mask=topk:64:0.1,op=backward", "mask=topk: timed forward, of one sequence"},
      {"mask=topk:64:0.1,Lk=1025", "mask=topk: timed forward, of one sequence of whole blocks"},
      {"mask=documents:0", "\"0\" is not a whole number from 1"},
      {"mask=documents:8,op=hard", "mask=documents: timed in f32"},
      {"mask=prefix:8,Lq=9,Lk=8", "with no more queries than keys"},
      {"mask=tree:9,Lq=8", "mask=tree:9: more than Lk=8"},
      {"mask=dilated:9,Lq=8,Lk=9", "mask=dilated: timed with Lq = Lk"},
      {"mask=longformer:9,Lq=8", "fewer keys than its 16 global tokens"},
      {"mask=neighbourhood:3,Lq=8", "Lk=8 is no square picture"},
      {"mask=neighbourhood:4,Lq=9", "Lk=9 is no square picture that holds the kernel"},
      {"mask=prefix:8,cache=ring", "causal, without modifiers"},
      {"mask=window:", "\"\" is not a whole number"},
      {"mask=window:-1", "\"-1\" is not a whole number from 0"},
      {"dtype=int8", "unknown value \"int8\"; known are f32, f64, bf16, f16"},
      {"kv=F32", "unknown value \"F32\""},
      {"layout=bsdh", "known are bhsd, bshd, eigen, eigen_col"},
      {"d=0", "\"0\" is not a whole number from 1"},
      {"d=64x", "\"64x\" is not a whole number"},
      {"d= 64", "\" 64\" is not a whole number"},
      {"Lq=99999999999999999999", "is not a whole number from 1 to 1000000000"},
      {"threads=2000", "is not a whole number from 1 to 1024"},
      {"", "\"\" is not key=value"},
      {"Lq=4,,d=8", "\"\" is not key=value"},
      {"causal", "\"causal\" is not key=value"},
      {"Lq=4,Lq=5", "the key Lq stands twice"},
      {"Hq=8,Hkv=3", "Hq=8 is not a multiple of Hkv=3"},
      {"dtype=f64,kv=f32", "f64 is timed with f64 only"},
      {"kv=f64", "f64 is timed with f64 only"},
      {"cache=linear", "known are contiguous, paged, ring"},
      {"cache=paged:0", "not a whole number from 1"},
      {"kv=i8", "say which cache"},
      {"dtype=i8", "int8 is for kv"},
      {"dtype=q4", "q4 is for kv"},
      {"kv=f8", "kv=f8: say which cache"},
      {"kv=q4,cache=ring", "cache=contiguous"},
      {"cache=ring,with=alibi", "without modifiers"},
      {"B=2,cache=ring,lens=4:9", "at least Lq"},
      {"Lq=1,cache=ring,lens=4:9", "for each of B sequences"},
      {"Lq=9,Lk=8,cache=ring", "at least the Lq=9"},
      {"B=2,layout=eigen", "an Eigen matrix holds one sequence"},
      {"Lq=1000000000,Lk=1,d=1000", "more than 10^12 elements"},
  };
  for (const auto& [words, why] : refused) {
    const auto message = refusal(words);
    EXPECT_NE(message.find(why), std::string::npos) << words << " -> " << message;
    EXPECT_TRUE(message.starts_with("workload \"" + std::string(words) + "\": ")) << message;
  }
}

TEST(workload, counts_useful_work) {
  EXPECT_EQ(useful_flops(parse_workload("op=backward,Hq=8,Lq=1024,d=64")), 10.0 * 8 * 1024 * 1024 * 64);
  EXPECT_EQ(useful_flops(parse_workload("op=hard,Hq=8,Lq=1024,d=64")), 2.0 * 8 * 1024 * 1024 * 64);
  EXPECT_EQ(useful_flops(parse_workload("op=backward,Hq=2,Lq=3,Lk=5,d=6,dv=7")),
            (6.0 * 6 + 4 * 7) * 2 * 3 * 5);
  EXPECT_EQ(useful_flops(parse_workload("op=linear,rule=gated_delta,B=3,Hq=4,Hkv=2,Lq=5,d=6,dv=7")),
            4.0 * 6 * 7 * 5 * 3 * 4);
  EXPECT_EQ(useful_flops(parse_workload("op=linear_backward,rule=gated_delta,B=3,Hq=4,Lq=5,d=6,dv=7")),
            10.0 * 6 * 7 * 5 * 3 * 4);
  EXPECT_EQ(kv_bytes(parse_workload("op=linear,B=3,Hq=4,Hkv=2,Lq=5,d=6,dv=7")), 2.0 * 4 * 6 * 7 * 3 * 2);
  EXPECT_EQ(kv_bytes(parse_workload("Hq=1,Hkv=1,Lq=1,Lk=64,d=32,dv=32,cache=contiguous,kv=q4")),
            64 * (32 * 0.625 + 32 * 0.53125 + 4));
  EXPECT_EQ(useful_flops(parse_workload("op=feature,B=3,Hq=4,Lq=5,d=6,dv=7,mask=causal")), 4.0 * 6 * 7 * 5 * 3 * 4);
  const auto dsa = parse_workload("op=dsa,Hq=128,Hkv=1,Lq=2,Lk=65536,d=576,dv=512,index=32:bf16,top=1024");
  EXPECT_EQ(useful_flops(dsa), 2.0 * (2.0 * 128 * (576 + 512) * 1024 + 2.0 * 32 * 128 * 65536));
  EXPECT_EQ(parse_workload(to_text(dsa)), dsa);
  EXPECT_EQ(parse_workload("op=dsa,Hkv=1").index_heads, 64);
  EXPECT_EQ(parse_workload("op=dsa,Hkv=1").top, 2048);
  EXPECT_NE(refusal("op=dsa,Hkv=1,index=64:i8"), "");
  EXPECT_NE(refusal("op=dsa,Hkv=1,mask=causal"), "");
  EXPECT_NE(refusal("index=64"), "");
  EXPECT_NE(refusal("top=64"), "");
  EXPECT_NE(refusal("op=feature,mask=window:3"), "");
  EXPECT_NE(refusal("op=linear,mask=causal"), "");
  EXPECT_NE(refusal("rule=delta"), "");
  EXPECT_EQ(useful_flops(parse_workload("Hq=8,Lq=1024,d=64")), 4.0 * 8 * 1024 * 1024 * 64);
  EXPECT_EQ(useful_flops(parse_workload("Hq=8,Lq=1024,d=64,mask=causal")), 2.0 * 8 * 1024 * 1024 * 64);
  EXPECT_EQ(useful_flops(parse_workload("B=2,Hq=4,Hkv=1,Lq=3,Lk=5,d=6,dv=7")), 2.0 * (6 + 7) * 3 * 5 * 2 * 4);
  EXPECT_EQ(useful_cells(parse_workload("Lq=2,Lk=10,mask=causal")), 18);
  EXPECT_EQ(useful_cells(parse_workload("Lq=10,Lk=2,mask=causal")), 2);
  EXPECT_EQ(useful_cells(parse_workload("Lq=5,mask=window:1")), 1 + 2 + 2 + 2 + 2);
  EXPECT_EQ(useful_cells(parse_workload("Lq=1,Lk=100,mask=window:9")), 10);
  EXPECT_EQ(useful_cells(parse_workload("Lq=3,Lk=1,mask=window:9")), 1);
  EXPECT_EQ(useful_cells(parse_workload("Lq=10,mask=documents:4")), 4 * 4 + 4 * 4 + 2 * 2);
  EXPECT_EQ(useful_cells(parse_workload("Lq=3,Lk=10,mask=documents:4")), 4 + 2 + 2);
  EXPECT_EQ(useful_cells(parse_workload("Lq=5,mask=prefix:3")), 3 + 3 + 3 + 4 + 5);
  EXPECT_EQ(useful_cells(parse_workload("Lq=5,Lk=10,mask=tree:4")), 6 + 7 + 8 + 8 + 9);
  EXPECT_EQ(useful_cells(parse_workload("Lq=5,mask=dilated:2")), 3 + 2 + 3 + 2 + 3);
  EXPECT_EQ(useful_cells(parse_workload("Lq=20,mask=longformer:1")), 16 * 20 + 18 + 19 + 19 + 18);
  EXPECT_EQ(useful_cells(parse_workload("Lq=16,mask=neighbourhood:3")), 16 * 9);
  EXPECT_EQ(useful_cells(parse_workload("Lq=8192,mask=blocks:64:0.1")), 128.0 * 13 * 64 * 64);
  EXPECT_EQ(useful_cells(parse_workload("Lq=100,Lk=8192,mask=topk:64:0.1")), 100.0 * 13 * 64);
  EXPECT_EQ(useful_cells(parse_workload("Lq=70,Lk=96,mask=blocks:64:1")), 70 * 96);
}

TEST(workload, counts_keys_and_values_once) {
  EXPECT_EQ(kv_bytes(parse_workload("Hq=32,Hkv=8,Lq=1,Lk=4096,d=128")), 2.0 * 8 * 4096 * 128 * 4);
  EXPECT_EQ(kv_bytes(parse_workload("B=3,Hq=2,Lk=10,d=4,dv=6,kv=bf16")), 3.0 * 2 * 10 * (4 + 6) * 2);
}

TEST(workload, visible_keys_follow_the_last_query) {
  using keys = std::pair<bench::index_type, bench::index_type>;
  const auto causal = parse_workload("Lq=2,Lk=10,mask=causal");
  const auto window = parse_workload("Lq=3,Lk=2,mask=window:0");
  EXPECT_EQ(visible_keys(causal, 0), (keys{0, 9}));
  EXPECT_EQ(visible_keys(causal, 1), (keys{0, 10}));
  EXPECT_EQ(visible_keys(window, 0), (keys{0, 0}));
  EXPECT_EQ(visible_keys(window, 1), (keys{0, 1}));
  EXPECT_EQ(visible_keys(window, 2), (keys{1, 2}));
}

}  // namespace
