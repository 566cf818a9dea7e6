// The pairs of the translation task: what each language says, that it says one thing only, and that what is
// held out never appears in training.
#include "translate/dates.hpp"
#include "translate/characters.hpp"

#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <unordered_map>

namespace {

using namespace translate;
using namespace std::chrono;

const language& named(std::string_view code) {
  for (const language* l : languages)
    if (l->code == code) return *l;
  throw std::invalid_argument(std::string(code));
}

/// The time style around the date style. Both must be the language's own.
std::string say(std::string_view code, std::string_view date_style, std::string_view time,
                year_month_day date, clock_time t = {}) {
  const language& in = named(code);
  EXPECT_EQ(std::ranges::count(in.date_styles, date_style), 1) << date_style;
  EXPECT_TRUE(std::ranges::any_of(in.time_styles, [&](auto style) { return has(style, time); })) << time;
  return write_time(in, time, write_date(in, date_style, date), t);
}

std::string lowered(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return text;
}

std::vector<std::string_view> alternatives(std::string_view style) {
  std::vector<std::string_view> all;
  for (std::size_t bar; (bar = style.find('|')) != std::string_view::npos; style.remove_prefix(bar + 1))
    all.push_back(style.substr(0, bar));
  all.push_back(style);
  return all;
}

/// f(time style, one of its alternatives, time) for all times that the style can say.
void each_time(const language& in, const auto& f) {
  for (const auto style : in.time_styles)
    for (int m = 0; m < 24 * 60; ++m)
      if (const clock_time t{m / 60, m % 60}; needs_time(style) && can_say(style, t))
        for (const auto pattern : alternatives(style)) f(pattern, t);
}

/// f(date) for every day of the task.
void each_date(const auto& f) {
  for (sys_days d = year(first_year) / 1 / 1; d < sys_days(year(last_year + 1) / 1 / 1); d += days(1)) f(d);
}

constexpr year_month_day march = 2021y / 3 / 3;  // a Wednesday

TEST(Dates, InEnglish) {
  EXPECT_EQ(say("en", "{month} {o}, {yyyy}", "{date}, {spoken}", march, {14, 5}),
            "March 3rd, 2021, five past two in the afternoon");
  EXPECT_EQ(say("en", "{weekday}, {month} {d}, {yyyy}", "{date} at {h}:{mm} {am}", 2000y / 2 / 29, {0, 5}),
            "Tuesday, February 29, 2000 at 12:05 am");
  EXPECT_EQ(say("en", "{n}/{d}/{yyyy}", "{date} {h}:{mm}{am}", march, {12, 30}), "3/3/2021 12:30pm");
  EXPECT_EQ(say("en", "the {day} of {month}, {year}", "{noon} on {date}", 1984y / 1 / 31, {12, 0}),
            "noon on the thirty-first of January, nineteen eighty-four");
  EXPECT_EQ(say("en", "{mon} {d} '{yy}", "{date}, {HH}{mm} hours", march, {9, 0}), "Mar 3 '21, 0900 hours");
  EXPECT_EQ(in_english::spoken(14, 0), "two o'clock in the afternoon");
  EXPECT_EQ(in_english::spoken(14, 30), "half past two in the afternoon");
  EXPECT_EQ(in_english::spoken(12, 45), "quarter to one in the afternoon");
  EXPECT_EQ(in_english::spoken(21, 35), "twenty-five to ten at night");
  EXPECT_EQ(in_english::year(2007), "two thousand and seven");
  EXPECT_EQ(in_english::year(2021), "twenty twenty-one");
  for (const auto& [n, text] : {std::pair{1, "1st"},
                                {2, "2nd"},
                                {3, "3rd"},
                                {4, "4th"},
                                {11, "11th"},
                                {12, "12th"},
                                {13, "13th"},
                                {21, "21st"},
                                {22, "22nd"},
                                {23, "23rd"},
                                {30, "30th"},
                                {31, "31st"}})
    EXPECT_EQ(in_english::ordinal(n), text);
}

TEST(Dates, InFrench) {
  EXPECT_EQ(say("fr", "le {o} {month} {yyyy}", "{date} à {H}h{mm}", march, {14, 5}),
            "le 3 mars 2021 à 14h05");
  EXPECT_EQ(say("fr", "le {weekday} {o} {month} {yyyy}", "{date} à {noon}", 2019y / 5 / 1, {0, 0}),
            "le mercredi 1er mai 2019 à minuit");
  EXPECT_EQ(say("fr", "le {day} {month} {year}", "{date} à {hour} {minute}", 1971y / 8 / 1, {21, 41}),
            "le premier août mille neuf cent soixante et onze à vingt et une heures quarante et une");
  EXPECT_EQ(in_french::spoken(14, 30), "deux heures et demie de l'après-midi");
  EXPECT_EQ(in_french::spoken(14, 45), "trois heures moins le quart de l'après-midi");
  EXPECT_EQ(in_french::spoken(1, 15), "une heure et quart du matin");
  EXPECT_EQ(in_french::spoken(12, 30), "midi et demi");
  EXPECT_EQ(in_french::spoken(11, 40), "midi moins vingt");
  for (const auto& [n, text] : {std::pair{21, "vingt et un"},
                                {70, "soixante-dix"},
                                {71, "soixante et onze"},
                                {72, "soixante-douze"},
                                {80, "quatre-vingts"},
                                {81, "quatre-vingt-un"},
                                {91, "quatre-vingt-onze"},
                                {99, "quatre-vingt-dix-neuf"}})
    EXPECT_EQ(in_french::number(n), text);
}

TEST(Dates, InGerman) {
  EXPECT_EQ(say("de", "{d}.{n}.{yy}", "{date} {H}:{mm} Uhr", march, {14, 5}), "3.3.21 14:05 Uhr");
  EXPECT_EQ(say("de", "am {weekday}, dem {d}. {month} {yyyy}", "{date} um {H} Uhr {min}", march, {14, 5}),
            "am Mittwoch, dem 3. März 2021 um 14 Uhr 5");
  EXPECT_EQ(say("de", "am {day} {month} {year}", "{date} um {hour} {minute}", 1984y / 10 / 7, {21, 31}),
            "am siebten Oktober neunzehnhundertvierundachtzig um einundzwanzig Uhr einunddreißig");
  EXPECT_EQ(in_german::spoken(14, 30), "halb drei nachmittags");
  EXPECT_EQ(in_german::spoken(14, 15), "viertel nach zwei nachmittags");
  EXPECT_EQ(in_german::spoken(8, 35), "fünf nach halb neun morgens");
  EXPECT_EQ(in_german::spoken(12, 25), "fünf vor halb eins mittags");
  EXPECT_EQ(in_german::spoken(23, 0), "elf Uhr nachts");
  EXPECT_EQ(in_german::spoken(13, 0), "ein Uhr mittags");
  EXPECT_EQ(in_german::day(20), "zwanzigsten");
  EXPECT_EQ(in_german::year(2001), "zweitausendeins");
}

TEST(Dates, InSpanish) {
  EXPECT_EQ(say("es", "el {d} de {month} de {yyyy}", "{date} a {spoken}", march, {14, 30}),
            "el 3 de marzo de 2021 a las dos y media de la tarde");
  EXPECT_EQ(say("es", "{wd}, {d} {mon} {yyyy}", "{date}, {h}:{mm} {am}", march, {14, 5}),
            "mié, 3 mar 2021, 2:05 p. m.");
  EXPECT_EQ(say("es", "el {day} de {month} de {year}", "{date} a {hour} y {minute}", 1996y / 1 / 1, {21, 21}),
            "el primero de enero de mil novecientos noventa y seis a las veintiuna horas y veintiún minutos");
  EXPECT_EQ(in_spanish::spoken(12, 45), "la una menos cuarto de la tarde");
  EXPECT_EQ(in_spanish::spoken(3, 5), "las tres y cinco de la madrugada");
  EXPECT_EQ(in_spanish::minute(31), "treinta y un minutos");
  EXPECT_EQ(in_spanish::year(2022), "dos mil veintidós");
}

TEST(Dates, InItalian) {
  EXPECT_EQ(say("it", "{o} {month} {yyyy}", "{date} alle ore {H}:{mm}", 2021y / 3 / 8, {14, 5}),
            "l'8 marzo 2021 alle ore 14:05");
  EXPECT_EQ(say("it", "{weekday} {d}/{n}/{yy}", "{date} {spoken}", march, {14, 30}),
            "mercoledì 3/3/21 alle due e mezza del pomeriggio");
  EXPECT_EQ(say("it", "{day} {month} {year}", "{date} {hour} e {minute}", 1988y / 8 / 11, {21, 33}),
            "l'undici agosto millenovecentottantotto alle ventuno e trentatré");
  EXPECT_EQ(in_italian::spoken(12, 45), "all'una meno un quarto del pomeriggio");
  EXPECT_EQ(in_italian::ordinal(1), "il 1º");
  EXPECT_EQ(in_italian::year(2003), "duemilatré");
}

TEST(Dates, InDutch) {
  EXPECT_EQ(say("nl", "op {d} {month} {yyyy}", "{date} om {H}:{mm} uur", march, {14, 5}),
            "op 3 maart 2021 om 14:05 uur");
  EXPECT_EQ(say("nl", "{weekday} {dd}-{nn}-{yy}", "{date} om {noon}", march, {0, 0}),
            "woensdag 03-03-21 om middernacht");
  EXPECT_EQ(say("nl", "op {day} {month} {year}", "{date} om {hour} {minute}", 1982y / 2 / 23, {22, 1}),
            "op drieëntwintig februari negentienhonderdtweeëntachtig om tweeëntwintig uur één");
  EXPECT_EQ(in_dutch::spoken(14, 20), "tien voor half drie 's middags");
  EXPECT_EQ(in_dutch::spoken(14, 30), "half drie 's middags");
  EXPECT_EQ(in_dutch::spoken(9, 40), "tien over half tien 's ochtends");
  EXPECT_EQ(in_dutch::spoken(21, 45), "kwart voor tien 's avonds");
}

TEST(Dates, InIso) {
  EXPECT_EQ(iso({march, clock_time{4, 5}}), "2021-03-03T04:05");
  EXPECT_EQ(iso({1999y / 12 / 31, {}}), "1999-12-31");
}

/// A text that means two things would be a mistake in one language, and a riddle across languages.
TEST(Dates, ADateStyleSaysOneDate) {
  std::unordered_map<std::size_t, int> meaning;  // by the text's hash
  for (const language* in : languages)
    for (const auto style : in->date_styles)
      each_date([&](sys_days d) {
        const std::string text = lowered(write_date(*in, style, d));
        const int day = d.time_since_epoch().count();
        ASSERT_EQ(meaning.emplace(std::hash<std::string>{}(text), day).first->second, day) << text;
      });
}

TEST(Dates, ATimeStyleSaysOneTime) {
  std::unordered_map<std::string, clock_time> meaning;
  for (const language* in : languages)
    each_time(*in, [&](std::string_view pattern, clock_time t) {
      const std::string text = write_time(*in, pattern, "", t);
      ASSERT_EQ(meaning.emplace(text, t).first->second, t) << in->code << text;
    });
}

TEST(Dates, ASourceHasOneTarget) {
  const std::regex valid(R"(\d{4}-\d\d-\d\d(T\d\d:\d\d)?)");
  std::unordered_map<std::string, std::string> meaning;
  for (std::uint64_t i = 0; i < 60'000; ++i)
    for (const pair& p : {training_pair(1, i), held_out_pair(1, i)}) {
      ASSERT_EQ(meaning.emplace(lowered(p.source), p.target).first->second, p.target) << p.source;
      ASSERT_TRUE(std::regex_match(p.target, valid)) << p.target;
    }
}

/// Reads digits with rules of its own: English has month/day or year/month/day, the others day, month, year.
TEST(Dates, DigitsReadBack) {
  const std::regex english_date(R"((^|[^\d])(\d{1,2})/(\d{1,2})/(\d{4}))"),
      year_first(R"((\d{4})/(\d\d)/(\d\d))"),
      date(R"((^|[^\d])(\d{1,2})[-./](\d{1,2})[-./](\d{4}|\d\d)(?!\d))"),
      time(R"((^|[^\d])(\d{1,2}):(\d\d)( ?([ap])(m|\. m\.))?)");
  int dates = 0, times = 0;
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    const pair p = training_pair(3, i);
    std::smatch m;
    int read[3] = {0, 0, 0};
    if (p.language == "en" && std::regex_search(p.source, m, year_first))
      read[0] = std::stoi(m[1]), read[1] = std::stoi(m[2]), read[2] = std::stoi(m[3]);
    else if (p.language == "en" && std::regex_search(p.source, m, english_date))
      read[0] = std::stoi(m[4]), read[1] = std::stoi(m[2]), read[2] = std::stoi(m[3]);
    else if (p.language != "en" && std::regex_search(p.source, m, date))
      read[0] = std::stoi(m[4]), read[1] = std::stoi(m[3]), read[2] = std::stoi(m[2]);
    if (read[0] > 0) {
      if (read[0] < 100) read[0] += read[0] >= 50 ? 1900 : 2000;
      ++dates;
      EXPECT_EQ(iso({year(read[0]) / read[1] / read[2], {}}), p.target.substr(0, 10)) << p.source;
    }
    if (std::regex_search(p.source, m, time)) {
      int hour = std::stoi(m[2]);
      if (m[5] == "p") hour = hour % 12 + 12;
      if (m[5] == "a") hour = hour % 12;
      ++times;
      EXPECT_EQ(two_digits(hour) + ":" + m[3].str(), p.target.substr(11)) << p.source;
    }
  }
  EXPECT_GT(dates, 2000);
  EXPECT_GT(times, 2000);
}

TEST(Dates, PairsAreFunctionsOfSeedAndIndex) {
  EXPECT_EQ(training_pair(7, 5).source, training_pair(7, 5).source);
  std::set<std::string> sources;
  for (std::uint64_t i = 0; i < 100; ++i) {
    sources.insert(training_pair(7, i).source);
    sources.insert(training_pair(8, i).source);
    sources.insert(held_out_pair(7, i).source);
  }
  EXPECT_GT(sources.size(), 295u);
  const pair p = training_pair(1, 0);  // the same on every machine
  EXPECT_EQ(p.source, "le jeudi 16 mai 1991 à midi dix");
  EXPECT_EQ(p.target, "1991-05-16T12:10");
}

TEST(Dates, WhatIsHeldOutIsNotLearnt) {
  int days_held_out = 0;
  each_date([&](sys_days d) { days_held_out += is_held_out(d); });
  EXPECT_NEAR(days_held_out, 36525 / 20, 150);

  using names = std::set<std::string>;
  names trained, dates, styles, date_styles, time_styles, seen;
  const auto split = [](const pair& p) {
    const auto bar = p.style.find(" / ");
    return std::pair{std::string(p.language) + p.style.substr(0, bar),
                     std::string(p.language) + p.style.substr(bar)};
  };
  for (std::uint64_t i = 0; i < 60'000; ++i) {
    const pair p = training_pair(1, i);
    trained.insert(lowered(p.source));
    dates.insert(p.target.substr(0, 10));
    styles.insert(std::string(p.language) + p.style);
    date_styles.insert(split(p).first);
    time_styles.insert(split(p).second);
  }
  for (std::uint64_t i = 0; i < 12'000; ++i) {
    const pair p = held_out_pair(2, i);
    const bool new_date = i % 3 != 1, new_style = i % 3 != 0;
    EXPECT_FALSE(trained.contains(lowered(p.source))) << p.source;
    if (new_date) {
      EXPECT_FALSE(dates.contains(p.target.substr(0, 10))) << p.target;
    }
    EXPECT_EQ(!styles.contains(std::string(p.language) + p.style), new_style) << p.style;
    EXPECT_TRUE(date_styles.contains(split(p).first)) << p.style;
    EXPECT_TRUE(time_styles.contains(split(p).second)) << p.style;
  }
  std::size_t all_dates = 0, all_times = 0;
  for (const language* in : languages)
    all_dates += in->date_styles.size(), all_times += in->time_styles.size();
  EXPECT_EQ(date_styles.size(), all_dates) << "each style is learnt";
  EXPECT_EQ(time_styles.size(), all_times);
}

TEST(Characters, KnowWhatIsWritten) {
  const characters known;
  std::set<int> used;
  const auto note = [&](const std::string& text) {
    for (const int token : known.encode(text)) {
      ASSERT_NE(token, characters::unknown) << text;
      used.insert(token);
    }
  };
  for (const language* in : languages) {
    for (const auto style : in->date_styles) {
      for (int d = 0; d < 366; ++d) note(write_date(*in, style, sys_days(2000y / 1 / 1) + days(d)));
      for (int y = first_year; y <= last_year; ++y) note(write_date(*in, style, year(y) / 1 / 1));
    }
    each_time(*in, [&](std::string_view pattern, clock_time t) { note(write_time(*in, pattern, "", t)); });
  }
  for (int token = 4 + 95; token < known.size(); ++token)  // beyond ASCII
    EXPECT_TRUE(used.contains(token)) << known.decode(std::vector{token});
}

TEST(Characters, ThereAndBack) {
  const characters known;
  const std::string text = "Mi., 3. März 2021, 's avonds à 14h05 ~";
  auto tokens = known.encode(text);
  EXPECT_EQ(tokens.size(), text.size() - 2) << "ä and à are one token each";
  EXPECT_EQ(known.decode(tokens), text);
  tokens.insert(tokens.begin(), characters::begin);
  tokens.insert(tokens.end(), {characters::end, characters::padding, 10});
  EXPECT_EQ(known.decode(tokens), text);
  EXPECT_EQ(known.encode("a我\xff"), (std::vector{known.encode("a")[0], 3, 3}));
  EXPECT_EQ(known.decode(known.encode("a我")), "a\ufffd");
  EXPECT_EQ(known.encode(""), std::vector<int>{});
  EXPECT_THROW(known.decode(std::vector{known.size()}), std::out_of_range);
  std::set<int> numbers;
  for (int token = 4; token < known.size(); ++token)
    numbers.insert(known.encode(known.decode(std::vector{token}))[0]);
  EXPECT_EQ(static_cast<int>(numbers.size()), known.size() - 4) << "no character twice";
}

}  // namespace
