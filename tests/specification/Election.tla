------------------------------ MODULE Election ------------------------------
(* Elections with pre-vote, leases and check-quorum: trioraft/consensus/{election,append_entries,quorum,lease,roles,transfer}.py.

   One step is what a node does with one message, one call of its timer, or one word from its disk, as in the program:
   the name of a step is the name of its rule, and of the action in a recorded trace. What a node wants on its disk
   gets there in order, some time later, and a message leaves its node when the disk has what it says. Messages are
   never taken away, so they arrive late, twice, in any order or not at all. Refusals and pre-votes bind nobody; so in
   the model they are not kept, but each that a node could have sent by now may come at any time.

   Time is counted on each node's own clock, in ticks that are left, as in LeaderWork; in the model all clocks go alike.
   Nothing is urgent but one thing: a leader whose quorum has been silent for too long does nothing as a leader any more.

   A log is a number, the higher the more up to date, and stays as it is: what becomes of logs is Raft's. Left out are
   changes of the members, leader work (LeaderWork.tla has it), and the numbers of pre-vote rounds: a late answer to an
   earlier question may count, which only allows more. *)
EXTENDS FiniteSets, Naturals, Sequences, TLC

CONSTANTS Node,
          None,      \* nobody, never
          MaxTerm,   \* no election after this term
          MaxLog,    \* logs are 0 .. MaxLog
          Lower,     \* the lower election timeout: for how long a node that heard from a leader refuses votes
          Counted,   \* how much of that the leader counts on: less, by how far clocks drift
          Slack,     \* how far a recorded time may be off; 0 in the model
          Transfers, \* whether leaders give their leadership away
          Keeps(_)   \* which messages are kept

VARIABLES disk,      \* of each node: [term, voted: a node or None, promised: whether it ever promised a leader anything]
          unwritten, \* of each node: what the same has become since, in order
          log,       \* of each node: how up to date its log is
          role,      \* "follower", "pre-candidate", "candidate" or "leader"
          asks,      \* whether the node is asking for (pre-)votes
          granted,   \* of one who asks: who has granted
          chosen,    \* of one who asks: whether the leader gave its leadership to it
          refuse,    \* for how long the node refuses votes
          heard,     \* of a leader: for how long each follower will refuse votes; None: it never answered
          since,     \* of a leader: for how long it may wait for its first quorum
          offered,   \* of a leader: whether it has offered its leadership to another node
          messages

asking == <<asks, granted, chosen>>
leading == <<heard, since, offered>>
vars == <<disk, unwritten, log, role, asking, refuse, leading, messages>>

Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a < b THEN a ELSE b
Largest(numbers) == CHOOSE a \in numbers : \A b \in numbers : a >= b
Less(a, ticks) == IF a = None THEN None ELSE IF a > ticks THEN a - ticks ELSE 0

IsQuorum(nodes) == 2 * Cardinality(nodes) > Cardinality(Node)

(* What a node knows, on its disk or on the way there. *)
Hard(n) == IF unwritten[n] = <<>> THEN disk[n] ELSE unwritten[n][Len(unwritten[n])]
Term(n) == Hard(n).term
Persist(n, hard) == unwritten' = IF hard = Hard(n) THEN unwritten ELSE [unwritten EXCEPT ![n] = Append(@, hard)]

All(m) == TRUE
Binding(m) == \/ m.kind \in {"VoteRequest", "AppendEntriesRequest", "TimeoutNow"}
              \/ m.kind = "VoteResponse" /\ m.granted
              \/ m.kind = "AppendEntriesResponse" /\ m.number # None

(* Whether the disk has what a message says: its term, and a vote given in it. *)
OnDisk(m) == \/ disk[m.from].term > m.term
             \/ /\ disk[m.from].term = m.term
                /\ m.kind = "VoteRequest" => disk[m.from].voted = m.from
                /\ m.kind = "VoteResponse" /\ m.granted => disk[m.from].voted = m.to
                /\ m.kind = "AppendEntriesResponse" /\ m.number # None => disk[m.from].promised
             \/ m.kind = "PreVoteRequest" /\ disk[m.from].term + 1 >= m.term
Arrives(m) == m \in messages /\ OnDisk(m)
Send(new) == messages' = messages \union {m \in new : Keeps(m)}

Init == /\ disk = [n \in Node |-> [term |-> 0, voted |-> None, promised |-> FALSE]]
        /\ unwritten = [n \in Node |-> <<>>]
        /\ log \in [Node -> 0 .. MaxLog]
        /\ role = [n \in Node |-> "follower"]
        /\ asks = [n \in Node |-> FALSE] /\ granted = [n \in Node |-> {}] /\ chosen = [n \in Node |-> FALSE]
        /\ refuse = [n \in Node |-> 0]
        /\ heard = [n \in Node |-> [m \in Node |-> None]] /\ since = [n \in Node |-> 0]
        /\ offered = [n \in Node |-> FALSE]
        /\ messages = {}

------------------------------------------------------------------------------
(* Leases *)

Leads(n) == role[n] = "leader"
Answered(n) == {m \in Node \ {n} : heard[n][m] # None}

(* For how long what a quorum has promised holds; the leader's own part holds for as long as it leads. *)
Contact(n) == Largest({0} \union {t \in {heard[n][m] : m \in Answered(n)} :
                                  IsQuorum({n} \union {m \in Answered(n) : heard[n][m] >= t})})

(* Check-quorum. A leader that lost its lease does not get it back in the same term. *)
MustStepDown(n) == Leads(n) /\ IF IsQuorum({n} \union Answered(n)) THEN Contact(n) = 0 ELSE since[n] = 0

(* A node refuses votes because it leads or heard from a leader. *)
MayRefuse(n) == Leads(n) \/ refuse[n] > 0
MayVote(n) == ~Leads(n) /\ refuse[n] <= Slack

------------------------------------------------------------------------------
(* Becoming something *)

NotAsking(n) == /\ asks' = [asks EXCEPT ![n] = FALSE]
                /\ granted' = [granted EXCEPT ![n] = {}]
                /\ chosen' = [chosen EXCEPT ![n] = FALSE]
NotLeading(n) == /\ heard' = [heard EXCEPT ![n] = [m \in Node |-> None]]
                 /\ since' = [since EXCEPT ![n] = 0]
                 /\ offered' = [offered EXCEPT ![n] = FALSE]

(* In a term in which it has not voted, unless it is the current one. *)
Adopted(n, term) == IF term > Term(n) THEN [Hard(n) EXCEPT !.term = term, !.voted = None] ELSE Hard(n)
Follow(n) == role' = [role EXCEPT ![n] = "follower"] /\ NotAsking(n) /\ NotLeading(n)
BecomeFollower(n, term) == Persist(n, Adopted(n, term)) /\ Follow(n) /\ UNCHANGED <<disk, log, refuse, messages>>

Lead(n) == /\ role' = [role EXCEPT ![n] = "leader"]
           /\ NotAsking(n)
           /\ heard' = [heard EXCEPT ![n] = [m \in Node |-> None]]
           /\ since' = [since EXCEPT ![n] = Lower]
           /\ offered' = [offered EXCEPT ![n] = FALSE]

(* A new term and a vote for oneself; it counts when it is on disk. *)
StartElection(n, transfer) ==
  /\ Term(n) < MaxTerm
  /\ Persist(n, [Hard(n) EXCEPT !.term = @ + 1, !.voted = n])
  /\ role' = [role EXCEPT ![n] = "candidate"]
  /\ asks' = [asks EXCEPT ![n] = TRUE]
  /\ granted' = [granted EXCEPT ![n] = {}]
  /\ chosen' = [chosen EXCEPT ![n] = transfer]
  /\ Send({[kind |-> "VoteRequest", from |-> n, term |-> Term(n) + 1, log |-> log[n], transfer |-> transfer]})
  /\ UNCHANGED <<disk, log, refuse, leading>>

(* A round is over when its time is up, or a quorum has become impossible. *)
GiveUp(n) == /\ asks[n]
             /\ role' = [role EXCEPT ![n] = "pre-candidate"]
             /\ NotAsking(n)
             /\ UNCHANGED <<disk, unwritten, log, refuse, leading, messages>>

(* Count one who granted: it may have been the last that was needed, for what comes then. *)
Nothing == UNCHANGED vars
Count(n, voter, Won) ==
  IF IsQuorum(granted[n] \union {voter}) THEN Won
  ELSE /\ granted' = [granted EXCEPT ![n] = @ \union {voter}]
       /\ UNCHANGED <<disk, unwritten, log, role, asks, chosen, refuse, leading, messages>>
Elected(n) == Lead(n) /\ UNCHANGED <<disk, unwritten, log, refuse, messages>>

------------------------------------------------------------------------------
(* Elections *)

StartPreVote(n) ==
  /\ ~Leads(n) /\ ~asks[n] /\ MayVote(n)
  /\ role' = [role EXCEPT ![n] = "pre-candidate"]
  /\ asks' = [asks EXCEPT ![n] = TRUE]
  /\ granted' = [granted EXCEPT ![n] = {n}]
  /\ chosen' = [chosen EXCEPT ![n] = FALSE]
  /\ Send({[kind |-> "PreVoteRequest", from |-> n, term |-> Term(n) + 1, log |-> log[n]]})
  /\ UNCHANGED <<disk, unwritten, log, refuse, leading>>

(* A refusal is an answer, with one's own term, whatever the term of the question. *)
HandlePreVoteRequest(n, r, grants) ==
  /\ r.from # n
  /\ grants => r.term > Term(n) /\ MayVote(n) /\ r.log >= log[n]
  /\ ~grants => r.term <= Term(n) \/ MayRefuse(n) \/ r.log < log[n]
  /\ Send({[kind |-> "PreVoteResponse", from |-> n, to |-> r.from, term |-> Term(n), granted |-> grants]})
  /\ UNCHANGED <<disk, unwritten, log, role, asking, refuse, leading>>

(* A pre-vote of an earlier round does not count; a refusal may end the round. *)
HandlePreVoteResponse(n, r, plain) ==
  /\ r.to = n
  /\ IF r.term > Term(n) THEN BecomeFollower(n, r.term)
     ELSE IF role[n] # "pre-candidate" \/ ~asks[n] THEN Nothing
     ELSE IF r.granted THEN IF plain THEN Count(n, r.from, StartElection(n, FALSE)) ELSE Nothing
     ELSE IF plain THEN Nothing ELSE GiveUp(n)

(* The leader's successor is let through, in the term directly after and in no other. *)
IsChosen(n, r) == /\ r.transfer
                  /\ Leads(n) => offered[n]
                  /\ r.term = Term(n) + 1 \/ (r.term = Term(n) /\ Hard(n).voted = r.from)

HandleVoteRequest(n, r, open) ==
  LET now == IF open THEN Adopted(n, r.term) ELSE Hard(n)
      grants == open /\ r.term = now.term /\ now.voted \in {None, r.from} /\ r.log >= log[n]
  IN /\ r.from # n
     /\ open => MayVote(n) \/ IsChosen(n, r)
     /\ ~open => MayRefuse(n) /\ ~IsChosen(n, r)
     /\ Persist(n, IF grants THEN [now EXCEPT !.voted = r.from] ELSE now)
     /\ IF grants \/ now.term > Term(n) THEN Follow(n) ELSE UNCHANGED <<role, asking, leading>>
     /\ Send({[kind |-> "VoteResponse", from |-> n, to |-> r.from, term |-> now.term, granted |-> grants]})
     /\ UNCHANGED <<disk, log, refuse>>

HandleVoteResponse(n, r, plain) ==
  /\ r.to = n
  /\ IF r.term > Term(n) THEN BecomeFollower(n, r.term)
     ELSE IF role[n] # "candidate" \/ ~asks[n] THEN Nothing
     ELSE IF r.granted THEN IF r.term = Term(n) THEN Count(n, r.from, Elected(n)) ELSE Nothing
     ELSE IF plain THEN Nothing ELSE GiveUp(n)

(* The first so many changes are on disk. A candidate's own vote counts now. *)
Written(n, many) ==
  LET left == SubSeq(unwritten[n], many + 1, Len(unwritten[n]))
      voters == granted[n] \union {n}
  IN /\ many <= Len(unwritten[n])
     /\ disk' = IF many = 0 THEN disk ELSE [disk EXCEPT ![n] = unwritten[n][many]]
     /\ unwritten' = [unwritten EXCEPT ![n] = left]
     /\ IF role[n] = "candidate" /\ asks[n] /\ left = <<>>
        THEN IF IsQuorum(voters) THEN Lead(n)
             ELSE granted' = [granted EXCEPT ![n] = voters] /\ UNCHANGED <<role, asks, chosen, leading>>
        ELSE UNCHANGED <<role, asking, leading>>
     /\ UNCHANGED <<log, refuse, messages>>

------------------------------------------------------------------------------
(* Leaders and followers *)

(* Heartbeats, or entries; by the number of one the leader knows when it was sent. *)
SendHeartbeats(n, numbers) ==
  /\ Leads(n) /\ ~MustStepDown(n)
  /\ Send([kind : {"AppendEntriesRequest"}, from : {n}, term : {Term(n)}, number : numbers, left : {Counted}])
  /\ UNCHANGED <<disk, unwritten, log, role, asking, refuse, leading>>

(* Whoever knows a newer term says so, or the sender would never learn it. *)
HandleAppendEntries(n, h) ==
  /\ h.from # n
  /\ IF h.term < Term(n)
     THEN /\ Send({[kind |-> "AppendEntriesResponse", from |-> n, to |-> h.from, term |-> Term(n),
                    number |-> None, left |-> 0]})
          /\ UNCHANGED <<disk, unwritten, log, role, asking, refuse, leading>>
     ELSE /\ ~(Leads(n) /\ h.term = Term(n))
          /\ Persist(n, [Adopted(n, h.term) EXCEPT !.promised = TRUE])
          /\ Follow(n)
          /\ refuse' = [refuse EXCEPT ![n] = Max(@, Lower)]
          /\ Send({[kind |-> "AppendEntriesResponse", from |-> n, to |-> h.from, term |-> h.term,
                    number |-> h.number, left |-> h.left]})
          /\ UNCHANGED <<disk, log>>

(* The promise counts from when what is answered was sent. *)
HandleAppendEntriesResponse(n, r) ==
  /\ r.to = n
  /\ IF r.term > Term(n) THEN BecomeFollower(n, r.term)
     ELSE IF ~Leads(n) \/ r.term < Term(n) \/ r.number = None THEN Nothing
     ELSE \/ /\ heard' = [heard EXCEPT ![n][r.from] = IF @ = None THEN r.left ELSE Max(@, r.left)]
             /\ UNCHANGED <<disk, unwritten, log, role, asking, refuse, since, offered, messages>>
          \/ r.left = 0 /\ Nothing  \* the leader has forgotten when it sent that

(* Check-quorum, a stuck disk, or a transfer that nobody took up. *)
StepDown(n) == Leads(n) /\ BecomeFollower(n, Term(n))

Offer(n, m) == /\ Leads(n) /\ n # m
               /\ offered' = [offered EXCEPT ![n] = TRUE]
               /\ Send({[kind |-> "TimeoutNow", from |-> n, to |-> m, term |-> Term(n)]})
               /\ UNCHANGED <<disk, unwritten, log, role, asking, refuse, heard, since>>

(* It counts in its own term only. *)
HandleTimeoutNow(n, t) == t.to = n /\ \/ t.term = Term(n) /\ role[n] = "follower" /\ StartElection(n, TRUE)
                                      \/ Nothing  \* perhaps it has not heard that this one leads

(* As if the promise had been given now. So many changes more are on disk than the node knew. *)
Restart(n, many) ==
  /\ many <= Len(unwritten[n])
  /\ disk' = IF many = 0 THEN disk ELSE [disk EXCEPT ![n] = unwritten[n][many]]
  /\ unwritten' = [unwritten EXCEPT ![n] = <<>>]
  /\ Follow(n)
  /\ refuse' = [refuse EXCEPT ![n] = IF disk'[n].promised THEN Lower ELSE 0]
  /\ messages' = {m \in messages : m.from # n \/ OnDisk(m)}
  /\ UNCHANGED log

------------------------------------------------------------------------------

(* Time passes on the clocks of some nodes. *)
Pass(nodes, ticks) ==
  LET Clock(m) == IF m.kind = "AppendEntriesRequest" THEN m.from ELSE m.to
      Timed(m) == m.kind \in {"AppendEntriesRequest", "AppendEntriesResponse"} /\ m.left > 0 /\ Clock(m) \in nodes
  IN /\ refuse' = [n \in Node |-> IF n \in nodes THEN Less(refuse[n], ticks) ELSE refuse[n]]
     /\ since' = [n \in Node |-> IF n \in nodes THEN Less(since[n], ticks) ELSE since[n]]
     /\ heard' = [n \in Node |-> IF n \in nodes THEN [m \in Node |-> Less(heard[n][m], ticks)] ELSE heard[n]]
     /\ messages' = {IF Timed(m) THEN [m EXCEPT !.left = Less(@, ticks)] ELSE m : m \in messages}
     /\ UNCHANGED <<disk, unwritten, log, role, asking, offered>>

(* What a node does with a message; a leader that must step down does that first. *)
Handle(n, m) == /\ ~MustStepDown(n)
                /\ CASE m.kind = "PreVoteRequest" -> \E grants \in BOOLEAN : HandlePreVoteRequest(n, m, grants)
                     [] m.kind = "PreVoteResponse" -> \E plain \in BOOLEAN : HandlePreVoteResponse(n, m, plain)
                     [] m.kind = "VoteRequest" -> \E open \in BOOLEAN : HandleVoteRequest(n, m, open)
                     [] m.kind = "VoteResponse" -> \E plain \in BOOLEAN : HandleVoteResponse(n, m, plain)
                     [] m.kind = "AppendEntriesRequest" -> HandleAppendEntries(n, m)
                     [] m.kind = "AppendEntriesResponse" -> HandleAppendEntriesResponse(n, m)
                     [] m.kind = "TimeoutNow" -> HandleTimeoutNow(n, m)

(* What is not kept, and would change something: a pre-vote, or a refusal of any kind that tells a newer term. *)
Unkept(n) == UNION {[kind : {"PreVoteResponse"}, from : {m}, to : {n}, granted : {FALSE},
                     term : Term(n) + 1 .. disk[m].term] : m \in Node \ {n}}
             \union IF role[n] = "pre-candidate" /\ asks[n]
                    THEN [kind : {"PreVoteResponse"}, from : Node \ {n}, to : {n}, granted : {TRUE}, term : {0}]
                    ELSE {}

(* In the model one number is enough: heartbeats differ by when they were sent. *)
Next == \/ Pass(Node, 1)
        \/ \E n \in Node : \/ StartPreVote(n) \/ GiveUp(n) \/ StepDown(n) \/ SendHeartbeats(n, {0})
                           \/ \E many \in 1 .. Len(unwritten[n]) : Written(n, many)
                           \/ Restart(n, 0)
                           \/ \E m \in Node : Transfers /\ ~MustStepDown(n) /\ Offer(n, m)
                           \/ \E m \in messages : Arrives(m) /\ Handle(n, m)
                           \/ \E m \in Unkept(n) : Handle(n, m)

Spec == Init /\ [][Next]_vars

(* A life that begins with a leader whom everybody has heard of. *)
InitLed == /\ \E first \in Node : disk = [n \in Node |-> [term |-> 1, voted |-> first, promised |-> TRUE]]
           /\ unwritten = [n \in Node |-> <<>>]
           /\ log \in [Node -> 0 .. MaxLog]
           /\ role = [n \in Node |-> IF n = disk[n].voted THEN "leader" ELSE "follower"]
           /\ asks = [n \in Node |-> FALSE] /\ granted = [n \in Node |-> {}] /\ chosen = [n \in Node |-> FALSE]
           /\ refuse = [n \in Node |-> IF Leads(n) THEN 0 ELSE Lower]
           /\ heard = [n \in Node |-> [m \in Node |-> IF Leads(n) /\ m # n THEN Counted ELSE None]]
           /\ since = [n \in Node |-> 0]
           /\ offered = [n \in Node |-> FALSE]
           /\ messages = {}
SpecLed == InitLed /\ [][Next]_vars

------------------------------------------------------------------------------

Symmetry == Permutations(Node)

TypeOK == /\ \A n \in Node : Term(n) \in 0 .. MaxTerm /\ Hard(n).voted \in Node \union {None}
          /\ role \in [Node -> {"follower", "pre-candidate", "candidate", "leader"}]
          /\ refuse \in [Node -> 0 .. Lower]
          /\ \A n, m \in Node : heard[n][m] = None \/ heard[n][m] \in 0 .. Counted

OneLeader == \A n, m \in Node : Leads(n) /\ Leads(m) /\ n # m => Term(n) # Term(m)

(* Nobody ever says that he voted for two candidates of a term, or for nobody before it is on disk. *)
OneVote == \A v, w \in {m \in messages : m.kind = "VoteResponse" /\ m.granted /\ OnDisk(m)} :
             v.from = w.from /\ v.term = w.term => v.to = w.to

(* What is on disk grows; what a leader is in is there. *)
LeadsOnDisk == \A n \in Node : Leads(n) => disk[n].term = Term(n) /\ disk[n].voted = n

(* At most one leader has a lease. *)
Lease(n) == IF Leads(n) /\ ~offered[n] /\ IsQuorum({n} \union Answered(n)) THEN Contact(n) ELSE 0
OneLease == \A n, m \in Node : Lease(n) > 0 /\ Lease(m) > 0 => n = m

(* What a leader counts on is kept, over restarts too. *)
PromiseKept == \A n, m \in Node : Leads(n) /\ heard[n][m] # None => refuse[m] >= heard[n][m]
==============================================================================
