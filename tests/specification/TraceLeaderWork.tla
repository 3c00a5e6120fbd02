--------------------------- MODULE TraceLeaderWork ---------------------------
(* Whether a recorded trace is a behaviour of LeaderWork, as far as leader work goes: how claims are heard, kept, told
   and waited for, and when work starts, goes on and ends. Terms, roles and leases are as the lines have them, for that
   they are right is what TraceElection checks. tests/specification/trace_leader_work.py writes the module TraceData
   from the recorded lines; times are in microseconds there.

   LeaderWork's steps are taken as they are where they are a node's own: to start work, and to end it. Where
   it has two nodes act at once, or one clock, this module takes them apart: a heartbeat is heard in one line and
   counted on in another, a vote is heard some time after it was given, a write reaches the disk some time after it was
   begun, and every node has a clock of its own, on which Here makes the durations that others tell long enough.

   A line is taken in two stages: time passes on the clocks of all nodes, and the disk gets what was written; then the
   node acts. Each line must be a step, the node must be afterwards what the line says, and what it sends must claim
   enough. Never may the leader work of two nodes overlap; on every line all clocks are known. *)
EXTENDS TraceData, Integers, Sequences  \* which extends LeaderWork

CONSTANTS DriftPart,   \* clocks differ in rate by one part in so many, at most
          Slack        \* how far a recorded time may be off

VARIABLES line,        \* the next line
          stage,       \* "time" or "act"
          lease,       \* of a leader: for how long it has its lease
          number,      \* the number of the newest heartbeat heard in the term
          aboutTerm,   \* the term whose leader `work` is about
          claimedTerm, \* on disk: the term of `claimed`
          unwritten,   \* what these two have become since, in order
          told,        \* of a candidate: what those who voted for it said of work
          given        \* of a candidate to whom leadership was given: what the leader said; or None

ours == <<number, aboutTerm, told, given>>
kept == <<claimedTerm, unwritten>>
unused == <<voted, longest, refuse, said, heard, leased, about, mine, ending, messages>>  \* of LeaderWork's variables

Of == TraceLines[line]
Node1 == Of.node
Here(ticks) == ticks + ticks \div DriftPart
Near(a, b) == a - b <= Slack /\ b - a <= Slack
Counted(n) == lease[n]  \* instead of LeaderWork's Contact

TraceInit ==
  /\ term = [n \in Node |-> 0] /\ role = [n \in Node |-> "follower"] /\ handover = [n \in Node |-> "none"]
  /\ work = [n \in Node |-> 0] /\ own = [n \in Node |-> "none"] /\ runs = [n \in Node |-> 0]
  /\ claimed = [n \in Node |-> 0] /\ claimedTerm = [n \in Node |-> 0] /\ unwritten = [n \in Node |-> <<>>]
  /\ lease = [n \in Node |-> 0] /\ number = [n \in Node |-> 0] /\ aboutTerm = [n \in Node |-> 0]
  /\ told = [n \in Node |-> {}] /\ given = [n \in Node |-> None]
  /\ voted = [n \in Node |-> FALSE] /\ longest = [n \in Node |-> 0] /\ refuse = [n \in Node |-> 0]
  /\ said = [n \in Node |-> None] /\ heard = [n \in Node |-> [m \in Node |-> 0]] /\ leased = [n \in Node |-> FALSE]
  /\ heartbeats = {} /\ requests = {} /\ votes = {} /\ offers = {} /\ ends = {}
  /\ about = [n \in Node |-> 0] /\ mine = [n \in Node |-> "no"]
  /\ former = [n \in Node |-> 0] /\ over = [n \in Node |-> 0]
  /\ before = [n \in Node |-> 0] /\ later = [n \in Node |-> 0]
  /\ line = 1 /\ stage = "time"

------------------------------------------------------------------------------
(* Time passes *)

Left(ticks, passed) == IF ticks > passed + Slack THEN ticks - passed ELSE 0
LeftOf(word, passed) == [word EXCEPT !.left = Left(@, passed)]

(* The first so many changes are on disk; after a restart nothing else is left of them. *)
ReachesDisk(n, many) ==
  LET now == IF many = 0 THEN [left |-> claimed[n], term |-> claimedTerm[n]] ELSE unwritten[n][many]
  IN /\ now = Of.on_disk
     /\ claimed' = [claimed EXCEPT ![n] = now.left]
     /\ claimedTerm' = [claimedTerm EXCEPT ![n] = now.term]
     /\ unwritten' = [unwritten EXCEPT ![n] = IF Of.action = "Restart" THEN <<>>
                                              ELSE SubSeq(@, many + 1, Len(@))]

Time == /\ stage = "time" /\ line <= Len(TraceLines)
        /\ PrintT(<<"line", line>>)
        /\ work' = [n \in Node |-> Left(work[n], Of.passed[n])]
        /\ runs' = [n \in Node |-> Left(runs[n], Of.passed[n])]
        /\ lease' = [n \in Node |-> Left(lease[n], Of.passed[n])]
        /\ told' = [n \in Node |-> {LeftOf(word, Of.passed[n]) : word \in told[n]}]
        /\ given' = [n \in Node |-> IF given[n] = None THEN None ELSE LeftOf(given[n], Of.passed[n])]
        /\ IF Of.action \in {"Restart", "Written"}
           THEN \E many \in 0 .. Len(unwritten[Node1]) : ReachesDisk(Node1, many)
           ELSE UNCHANGED <<claimed, kept>>
        /\ stage' = "act"
        /\ UNCHANGED <<term, role, handover, own, number, aboutTerm, unused, line>>

------------------------------------------------------------------------------
(* What a node hears; and all that came must have been sent. *)

Came(kind) == Of.action = "Handle" /\ Of.message.kind = kind
WasSent == Of.action = "Handle" => /\ Of.origin \in 1 .. line - 1
                                   /\ Of.message \in TraceLines[Of.origin].sent

(* A claim counts when it comes from the leader that the node follows, and is newer than what it has heard. *)
Hears(n) == /\ Came("AppendEntriesRequest")
            /\ Of.message.term = Of.term /\ Of.message.term >= term[n] /\ Of.role = "follower"
            /\ Of.message.term > term[n] \/ Of.message.number > number[n]

(* What a leader counts on: the claim is on the follower's disk, or a later leader's. *)
KeptByFollower == Came("AppendEntriesResponse") /\ Of.message.number > 0 /\ Of.role = "leader"
                  /\ Of.message.term = Of.term => claimedTerm[Of.message.from] >= Of.term

Votes(n) == IF Came("VoteResponse") /\ Of.message.granted /\ role[n] = "candidate" /\ Of.message.term = term[n]
            THEN {[from |-> Of.message.from, term |-> Of.message.about, left |-> Here(Of.message.work)]} ELSE {}
Told(n) == Votes(n) \union {word \in told[n] : \A vote \in Votes(n) : vote.from # word.from}

Stands(n) == Of.role = "candidate" /\ Of.term > term[n]
Wins(n) == Of.role = "leader" /\ (role[n] # "leader" \/ Of.term > term[n])

(* The old leader knows best what has become of its work and of all work before it. *)
Remainder(n) ==
  LET words == {[from |-> n, term |-> aboutTerm[n], left |-> work[n]]} \union Told(n)
      all == IF given[n] = None THEN words
             ELSE {word \in words : word.term > given[n].term} \union {given[n]}
  IN Largest({word.left : word \in all})

------------------------------------------------------------------------------
(* What a node does *)

(* What it has to keep: at least so much; more does no harm. What is kept already is not written again. *)
NewestKept(n) == IF unwritten[n] = <<>> THEN [left |-> claimed[n], term |-> claimedTerm[n]]
                 ELSE unwritten[n][Len(unwritten[n])]
KeepsOn(n) == NewestKept(n) = Of.claimed /\ UNCHANGED unwritten
Keeps(n, left) == /\ Of.claimed.left >= left - Slack /\ Of.claimed.term = Of.term
                  /\ IF NewestKept(n) = Of.claimed THEN UNCHANGED unwritten
                     ELSE unwritten' = [unwritten EXCEPT ![n] = Append(@, Of.claimed)]

EndsLeading(n) == role[n] = "leader" /\ (Of.role # "leader" \/ Of.term > term[n])
Ended(n) == IF EndsLeading(n) \/ Of.handover # "none" THEN EndWork(n) ELSE own[n]
Succeeded(state) == IF state \in {"running", "ending"} THEN "succeeded" ELSE state

(* As long as it runs, work is extended when the lease is, at once or before the next line. *)
Goes(n) == /\ work' = [work EXCEPT ![n] = Of.work]
           /\ IF own[n] = "running" THEN Of.work >= work[n] - Slack /\ Of.work <= Max(work[n], runs[n]) + Slack
              ELSE Near(Of.work, work[n])

Acts(n) ==
  /\ term' = [term EXCEPT ![n] = Of.term] /\ role' = [role EXCEPT ![n] = Of.role]
  /\ lease' = [lease EXCEPT ![n] = Of.lease]
  /\ handover' = [handover EXCEPT ![n] = Of.handover]
  /\ Of.handover # "none" => Of.role = "leader"
  /\ Of.handover = "offered" => Ended(n) = "none"
  /\ handover[n] # "none" /\ Of.handover = "none" => EndsLeading(n)
  /\ own' = [own EXCEPT ![n] = IF Hears(n) THEN Succeeded(Ended(n))
                               ELSE IF Wins(n) /\ Ended(n) = "ending" THEN "succeeded" ELSE Ended(n)]
  /\ CASE Hears(n) ->
            /\ Near(Of.work, Here(Of.message.work))
            /\ work' = [work EXCEPT ![n] = Of.work]
            /\ aboutTerm' = [aboutTerm EXCEPT ![n] = Of.term]
            /\ Keeps(n, Here(Of.message.work))
       [] Wins(n) ->
            /\ IsQuorum({n} \union {word.from : word \in Told(n)})
            /\ Near(Of.work, Remainder(n))
            /\ work' = [work EXCEPT ![n] = Of.work]
            /\ aboutTerm' = [aboutTerm EXCEPT ![n] = Of.term]
            /\ Keeps(n, Here(Max(Claim, Remainder(n))))
       [] OTHER -> Goes(n) /\ KeepsOn(n) /\ UNCHANGED aboutTerm
  /\ number' = [number EXCEPT ![n] = IF Hears(n) THEN Of.message.number ELSE IF Of.term > term[n] THEN 0 ELSE @]
  /\ told' = [told EXCEPT ![n] = IF Of.role # "candidate" \/ Stands(n) THEN {} ELSE Told(n)]
  /\ given' = [given EXCEPT ![n] = IF Of.role # "candidate" THEN None
                                   ELSE IF ~Stands(n) THEN @
                                   ELSE IF Came("TimeoutNow")
                                   THEN [from |-> Of.message.from, term |-> Of.message.term,
                                         left |-> Here(Of.message.work)]
                                   ELSE None]
  /\ runs' = [runs EXCEPT ![n] = IF own'[n] = "running" /\ Of.lease > 0 THEN Max(@, Of.lease + Grace) ELSE @]
  /\ UNCHANGED <<unused, claimed, claimedTerm>>

(* As LeaderWork has it, in the term that is on disk, and from the claim there. *)
Restarts(n) == /\ role' = [role EXCEPT ![n] = "follower"] /\ handover' = [handover EXCEPT ![n] = "none"]
               /\ term' = [term EXCEPT ![n] = Of.term]
               /\ work' = [work EXCEPT ![n] = claimed[n]]
               /\ own' = [own EXCEPT ![n] = "none"]
               /\ aboutTerm' = [aboutTerm EXCEPT ![n] = claimedTerm[n]]
               /\ lease' = [lease EXCEPT ![n] = 0]
               /\ number' = [number EXCEPT ![n] = 0]
               /\ told' = [told EXCEPT ![n] = {}] /\ given' = [given EXCEPT ![n] = None]
               /\ UNCHANGED <<unused, claimed, kept, runs>>

(* A leader's own claim has to be on its disk, as on those of the others. *)
Starts(n) == /\ StartWork(n)
             /\ claimedTerm[n] = term[n]
             /\ KeepsOn(n)
             /\ UNCHANGED <<ours, claimedTerm, lease>>
Ends(n) == /\ IF own[n] \in {"ending", "succeeded"} THEN WorkEnds(n) ELSE UNCHANGED vars
           /\ KeepsOn(n)
           /\ UNCHANGED <<ours, claimedTerm, lease>>

(* What the node says it is; "succeeded" is LeaderWork's alone. *)
Seen(state) == IF state = "succeeded" THEN "ending" ELSE state
After(n) == /\ term'[n] = Of.term /\ role'[n] = Of.role /\ handover'[n] = Of.handover
            /\ Seen(own'[n]) = Of.own
            /\ Near(work'[n], Of.work)

(* What it tells others: a leader of all work that there may be, a voter and an old leader of what they know. *)
Tells(n, m) ==
  CASE m.kind = "AppendEntriesRequest" ->
         m.work >= (IF Leads(n)' THEN ClaimOf(n, work[n])' ELSE work'[n]) - Slack
    [] m.kind = "VoteResponse" -> m.granted => m.work >= work'[n] - Slack /\ m.about = aboutTerm'[n]
    [] m.kind = "TimeoutNow" -> handover'[n] = "offered" /\ m.work >= work'[n] - Slack
    [] OTHER -> TRUE

Act == /\ stage = "act"
       /\ WasSent /\ KeptByFollower
       /\ CASE Of.action = "Restart" -> Restarts(Node1)
            [] Of.action = "StartWork" -> Starts(Node1)
            [] Of.action = "WorkEnds" -> Ends(Node1)
            [] OTHER -> Acts(Node1)
       /\ \E n \in {Node1} : After(n) /\ \A m \in Of.sent : Tells(n, m)
       /\ stage' = "time" /\ line' = line + 1

TraceNext == Time \/ Act
TraceSpec == TraceInit /\ [][TraceNext]_<<vars, line, stage, lease, ours, kept>>

(* The end is reached by a trace that is a behaviour: TLC tells that this does not hold. *)
NotAccepted == line <= Len(TraceLines)
==============================================================================
