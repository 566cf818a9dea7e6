// translate/languages/italian.hpp - dates and times in Italian.
#pragma once

#include "../language.hpp"

namespace translate::in_italian {

inline std::string number(int n) {
  constexpr std::array<std::string_view, 20> small{
      "zero",        "uno",      "due",    "tre",         "quattro",  "cinque",    "sei",
      "sette",       "otto",     "nove",   "dieci",       "undici",   "dodici",    "tredici",
      "quattordici", "quindici", "sedici", "diciassette", "diciotto", "diciannove"};
  constexpr std::array<std::string_view, 10> tens{"",          "",         "venti",    "trenta",  "quaranta",
                                                  "cinquanta", "sessanta", "settanta", "ottanta", "novanta"};
  if (n < 20) return std::string(small[n]);
  std::string ten(tens[n / 10]);
  if (n % 10 == 1 || n % 10 == 8) ten.pop_back();  // ventuno, ventotto
  return n % 10 == 0 ? ten : n % 10 == 3 ? ten + "tré" : ten + number(n % 10);
}

/// With the article, which is shortened before a vowel.
inline std::string ordinal(int n) {
  return n == 1 ? "il 1º" : (n == 8 || n == 11 ? "l'" : "il ") + digits(n);
}
inline std::string day(int n) { return n == 1 ? "il primo" : (n == 8 || n == 11 ? "l'" : "il ") + number(n); }

inline std::string year(int n) {
  if (n < 2000) return (n / 10 == 198 ? "millenovecent" : "millenovecento") + number(n - 1900);
  return n == 2000 ? "duemila" : n == 2003 ? "duemilatré" : "duemila" + number(n - 2000);
}

/// With the preposition.
inline std::string hour(int n) { return n == 1 ? "all'una" : "alle " + number(n); }

inline std::string spoken(int hours, int minute) {
  static constexpr day_part parts[] = {
      {0, " di notte"}, {5 * 60, " del mattino"}, {12 * 60, " del pomeriggio"}, {18 * 60, " di sera"}};
  std::string text = hour(on_dial(minute > 30 ? hours + 1 : hours));
  text += minute == 0    ? ""
          : minute == 15 ? " e un quarto"
          : minute == 30 ? " e mezza"
          : minute == 45 ? " meno un quarto"
          : minute < 30  ? " e " + number(minute)
                         : " meno " + number(60 - minute);
  return text.append(part_of_day(parts, hours, minute));
}

inline constexpr std::string_view date_styles[] = {
    "{o} {month} {yyyy}",       "{d} {month} {yyyy}",     "{weekday} {d} {month} {yyyy}",
    "in data {dd}/{nn}/{yyyy}", "{weekday} {d}/{n}/{yy}", "{day} {month} {year}",
    "{wd} {d} {mon} {yyyy}",    "{o} {month} del {yyyy}", "{weekday} {dd}.{nn}.{yyyy}"};
inline constexpr std::string_view time_styles[] = {"{date}",
                                                   "{date} alle ore {H}:{mm}|{date}, ore {H}:{mm}",
                                                   "{date}, {HH}.{mm}|{date} - {HH}.{mm}",
                                                   "{date} alle ore {H}|{date}, ore {H}",
                                                   "{date} {hour} e {minute}|{date}, {hour} e {minute}",
                                                   "{date} {spoken}|{date}, {spoken}",
                                                   "{date} a {noon}|{date}, {noon}"};

inline constexpr language italian{
    .code = "it",
    .date_styles = date_styles,
    .time_styles = time_styles,
    .months = {"gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto", "settembre",
               "ottobre", "novembre", "dicembre"},
    .short_months = {"gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"},
    .weekdays = {"domenica", "lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato"},
    .short_weekdays = {"dom", "lun", "mar", "mer", "gio", "ven", "sab"},
    .noon = "mezzogiorno",
    .midnight = "mezzanotte",
    .am = "",
    .pm = "",
    .ordinal = ordinal,
    .day = day,
    .year = year,
    .hour = hour,
    .minute = number,
    .spoken = spoken};

}  // namespace translate::in_italian
