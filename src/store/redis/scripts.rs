//! What Redis does in one step. Each script is for keys of one slot, and runs on Redis 6.0 and all that came later.
//!
//! A moment is a number of microseconds since 1970 by the clock of the server that runs the script.
//!
//! Where something of another type is kept under one of these names there is nothing, and what is kept takes its place:
//! a `pcall` gives a table in place of a text then.

use super::servers::Script;

/// Begins a run: takes the lease if it is wanted and nobody has it, and gives back the record, the time, and for how
/// many more milliseconds another one has the lease (0: nobody else has). Whoever finds it taken leaves a mark that he
/// waits.
///
/// Keys: record, lease, mark. Arguments: the lease's token, or nothing if none is wanted; how long it lasts, and how
/// long the mark does, in milliseconds.
pub(super) static CLAIM: Script = Script::new(
    r"
local left = 0
if ARGV[1] ~= '' and not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
    left = redis.call('PTTL', KEYS[2])
    if left <= 0 then left = tonumber(ARGV[2]) end
    redis.call('SET', KEYS[3], '1', 'PX', ARGV[3])
end
local time, record = redis.call('TIME'), redis.pcall('GET', KEYS[1])
if type(record) == 'table' then record = false end
return {record, time[1], time[2], left}",
);

/// Keeps a record, for what is left of its time, unless there is one whose run claimed later; and gives the lease back,
/// if it is the run's. Where a run has none and is kept, another one's is over: who holds it may hang, and nobody need wait
/// any longer. A record of another format does not count, nor does one of a run that claims after now: the
/// clock was set back since.
///
/// Keys: record, lease, mark. Arguments: the lease's token, the channel, what to tell there if somebody waits; the
/// record, the moment of the claim, and how many microseconds it lives from then on.
pub(super) static SAVE: Script = Script::new(
    r"
local function leave()
    if redis.call('DEL', KEYS[2]) == 1 and redis.call('DEL', KEYS[3]) == 1 then
        redis.call('PUBLISH', ARGV[2], ARGV[3])
    end
end
if redis.pcall('GET', KEYS[2]) == ARGV[1] then leave() end
local time = redis.call('TIME')
local now, claimed = time[1] * 1000000 + time[2], tonumber(ARGV[5])
local head = redis.pcall('GETRANGE', KEYS[1], 0, 11)
if #head == 12 and string.sub(head, 1, 4) == string.sub(ARGV[4], 1, 4) then
    local other = struct.unpack('>I8', head, 5)
    if other > claimed and other <= now then return 0 end
end
local left = math.floor((ARGV[6] - math.max(0, now - claimed)) / 1000)
if left <= 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[4], 'PX', string.format('%.0f', left))
if ARGV[1] == '' then leave() end
return 1",
);

/// Gives a lease back, and tells those who wait for it.
///
/// Keys: lease, mark. Arguments: the lease's token, the channel, what to tell there.
pub(super) static RELEASE: Script = Script::new(
    r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('DEL', KEYS[2]) == 1 then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return 1",
);

/// Makes a lease last, if it is still the run's.
///
/// Keys: lease. Arguments: its token, how long it lasts from now on, in milliseconds.
pub(super) static RENEW: Script = Script::new(
    r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
);

/// Gives back tokens, and makes those that are not there. They last for as long as they are needed at least: when less
/// is left of that they are given more, so that not each run has to write.
///
/// Keys: tokens. Arguments: 8 random bytes, how often these are repeated in a token, how long it is needed and how long
/// it is made to last, in milliseconds.
pub(super) static OBSERVE: Script = Script::new(
    r"
local values, fresh = {}, string.rep(ARGV[1], ARGV[2])
for at, key in ipairs(KEYS) do
    local value = redis.pcall('GET', key)
    if type(value) == 'string' and #value == #fresh then
        local left = redis.call('PTTL', key)
        if left >= 0 and left < tonumber(ARGV[3]) then redis.call('PEXPIRE', key, ARGV[4]) end
    else
        value = fresh
        redis.call('SET', key, value, 'PX', ARGV[4])
    end
    values[at] = value
end
return values",
);

/// Puts something else into one of the buckets. Buckets that are not there hold nothing that anybody has seen: a server
/// without room, which refuses to write, forgets all of them.
///
/// Keys: the buckets. Arguments: where, and 8 random bytes.
pub(super) static STIR: Script = Script::new(
    r"
if redis.call('EXISTS', KEYS[1]) == 1 then
    local written = redis.pcall('SETRANGE', KEYS[1], ARGV[1], ARGV[2])
    if type(written) == 'table' then redis.call('DEL', KEYS[1]) end
end
return 1",
);

/// Deletes a token, ends the epoch, and tells everybody. These are one step: whoever hears of it and asks finds it done,
/// and nobody sees the one without the other.
///
/// Keys: the token; the epoch, but for in a cluster. Arguments: the channel, what to tell there.
pub(super) static INVALIDATE: Script = Script::new(
    r"
redis.call('DEL', unpack(KEYS))
return redis.call('PUBLISH', ARGV[1], ARGV[2])",
);

/// Deletes a record, unless its run claimed later.
///
/// Keys: record. Arguments: the format of records, the moment of the claim.
pub(super) static FORGET: Script = Script::new(
    r"
local head = redis.pcall('GETRANGE', KEYS[1], 0, 11)
if #head == 12 and string.sub(head, 1, 4) == ARGV[1] then
    local time = redis.call('TIME')
    local other = struct.unpack('>I8', head, 5)
    if other > tonumber(ARGV[2]) and other <= time[1] * 1000000 + time[2] then return 0 end
end
return redis.call('DEL', KEYS[1])",
);
