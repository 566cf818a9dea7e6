// translate/language.hpp - how a language writes dates and times.
//
// A style is a pattern with fields. Of a date (3 March 2021):
//   {d} 3  {dd} 03  {o} 3rd  {day} third          {n} 3  {nn} 03  {mon} Mar  {month} March
//   {wd} Wed  {weekday} Wednesday                 {yyyy} 2021  {yy} 21 (50 to 99 are 19xx)  {year} in words
// Of a time (14:05), with the date in it as {date}:
//   {H} 14  {HH} 14  {h} 2  {am} pm  {mm} 05  {min} 5       {hour} fourteen  {minute} five
//   {spoken} five past two in the afternoon                 {noon} noon or midnight
// Alternatives of one style are divided by |. Hours in digits are of 24, unless am or pm follows; hours in
// words say the part of the day, or are beyond 12.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

namespace translate {

struct language {
  std::string_view code;
  std::span<const std::string_view> date_styles, time_styles;
  std::array<std::string_view, 12> months, short_months;
  std::array<std::string_view, 7> weekdays, short_weekdays;  // from Sunday
  std::string_view noon, midnight;                           // midnight begins the day it is said of
  std::string_view am, pm;
  std::string (*ordinal)(int day);              // {o}
  std::string (*day)(int day);                  // {day}
  std::string (*year)(int year);                // {year}
  std::string (*hour)(int hour);                // {hour}, 13 to 23
  std::string (*minute)(int minute);            // {minute}
  std::string (*spoken)(int hour, int minute);  // {spoken}, from 1:00 to 23:30 by steps of 5 minutes
};

/// The hour as a clock with hands shows it: 1 to 12.
constexpr int on_dial(int hour) { return (hour + 11) % 12 + 1; }

/// What part of a day a time lies in: the last that starts no later. None is 12 hours long, so that "two at
/// night" says one time only.
struct day_part {
  int from;  // minutes after midnight
  std::string_view name;
};
constexpr std::string_view part_of_day(std::span<const day_part> parts, int hour, int minute) {
  std::string_view name;
  for (const day_part& p : parts)
    if (60 * hour + minute >= p.from) name = p.name;
  return name;
}

inline std::string digits(int n) { return std::to_string(n); }
inline std::string two_digits(int n) { return std::string(n < 10 ? 1 : 0, '0').append(std::to_string(n)); }

}  // namespace translate
