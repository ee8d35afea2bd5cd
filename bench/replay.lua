-- Replays the signed requests of a file, in order and for ever, and counts the answers by status.
-- Arguments after "--": the file of bench/replay.py and the expected status.

local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   expected = tonumber(args[2])
   once = args[3] == "once"
   bodies, heads, body_of = {}, {}, {}
   local body_count = tonumber(file:read("*l"))
   for i = 1, body_count do
      local size = tonumber(file:read("*l"))
      bodies[i] = size > 0 and file:read(size) or ""
   end
   total = tonumber(file:read("*l"))
   for i = 1, total do
      local body, size = file:read("*n", "*n")
      file:read("*l")
      heads[i] = file:read(size)
      body_of[i] = body
   end
   file:close()
   position, good, bad, ran_out = 0, 0, "", 0
end

function request()
   position = position + 1
   if position > total then
      position = 1
      if once then
         ran_out = 1
         wrk.thread:stop()
      end
   end
   -- joined only now: bodies are shared, and thousands of copies of 57 kB would not fit
   return heads[position] .. bodies[body_of[position]]
end

function response(status)
   if status == expected then
      good = good + 1
   else
      bad = bad .. status .. " "
      if #bad > 4000 then wrk.thread:stop() end
   end
end

function done(summary, latency, requests)
   local good, bad, ran_out = 0, "", 0
   for _, thread in ipairs(threads) do
      good = good + thread:get("good")
      bad = bad .. thread:get("bad")
      ran_out = ran_out + thread:get("ran_out")
   end
   local errors = summary.errors
   io.write(string.format(
      'RESULT {"duration_us": %d, "good": %d, "bad": "%s", "ran_out": %d, "p50_us": %d, "p99_us": %d, '
      .. '"connect": %d, "read": %d, "write": %d, "timeout": %d}\n',
      summary.duration, good, bad, ran_out, latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.timeout))
end
